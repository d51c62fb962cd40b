// Requests and limits → cgroup resources, by the kubelet's rules: shares, quota, memory, OOM score.

import { existsSync } from "node:fs";
import { totalmem } from "node:os";
import Long from "long";
import type { runtime } from "../api/generated/messages.js";
import type { Container, PodSpec } from "./supported.ts";

const suffixes: ReadonlyMap<string, number> = new Map([
  ...["n", "u", "m"].map((name, index) => [name, 10 ** (3 * (index - 3))] as const),
  ["", 1],
  ...["k", "M", "G", "T", "P", "E"].map((name, index) => [name, 10 ** (3 * (index + 1))] as const),
  ...["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].map((name, index) => [name, 2 ** (10 * (index + 1))] as const),
]);

/** A quantity as a number ("100m" is 0.1, "1.5Gi" 1610612736); undefined if it is invalid or negative. */
export function quantity(text: string | number): number | undefined {
  const [, digits = "", exponent = "", suffix = ""] =
    /^(\d+\.?\d*|\.\d+)(?:([eE][+-]?\d+)|([a-zA-Z]{0,2}))$/.exec(String(text)) ?? [];
  const factor = suffixes.get(suffix);
  return digits === "" || factor === undefined ? undefined : Number(`${digits}${exponent}`) * factor;
}

export type QosClass = "Guaranteed" | "Burstable" | "BestEffort";

export interface Amounts {
  readonly cpuRequest: number;
  readonly cpuLimit: number;
  readonly memoryRequest: number;
  readonly memoryLimit: number;
}

/** 0 for unset values; an unset request is the limit. */
export function amounts({ resources }: Pick<Container, "resources">): Amounts {
  const get = (map: Readonly<Record<string, string>> | undefined, name: string) =>
    map?.[name] === undefined ? undefined : quantity(map[name]);
  const [cpuLimit, memoryLimit] = [get(resources?.limits, "cpu") ?? 0, get(resources?.limits, "memory") ?? 0];
  return {
    cpuLimit,
    memoryLimit,
    cpuRequest: get(resources?.requests, "cpu") ?? cpuLimit,
    memoryRequest: get(resources?.requests, "memory") ?? memoryLimit,
  };
}

export function qosClass(spec: PodSpec): QosClass {
  const all = [...(spec.initContainers ?? []), ...spec.containers].map(amounts);
  if (all.every((each) => Object.values(each).every((amount) => amount === 0))) return "BestEffort";
  const whole = ({ cpuLimit, cpuRequest, memoryLimit, memoryRequest }: Amounts) =>
    cpuLimit > 0 && memoryLimit > 0 && cpuLimit === cpuRequest && memoryLimit === memoryRequest;
  return all.every(whole) ? "Guaranteed" : "Burstable";
}

const periodMicroseconds = 100_000;

export function containerResources(
  spec: PodSpec,
  container: Container,
): runtime.v1.LinuxContainerResources.$Properties {
  return {
    ...cgroupResources(amounts(container)),
    oomScoreAdj: Long.fromNumber(oomScore(spec, container)),
    // An OOM kills all of a container's processes, as with a kubelet on cgroup v2.
    ...(existsSync("/sys/fs/cgroup/cgroup.controllers") ? { unified: { "memory.oom.group": "1" } } : {}),
  };
}

/** The sum over a pod's concurrent containers; init containers run before them. */
export function podResources(spec: PodSpec): runtime.v1.LinuxContainerResources.$Properties {
  const all = spec.containers.map(amounts);
  const total = (key: keyof Amounts) => all.reduce((sum, each) => sum + each[key], 0);
  const bounded = (key: "cpuLimit" | "memoryLimit") => (all.every((each) => each[key] > 0) ? total(key) : 0);
  return cgroupResources({
    cpuRequest: total("cpuRequest"),
    memoryRequest: total("memoryRequest"),
    cpuLimit: bounded("cpuLimit"),
    memoryLimit: bounded("memoryLimit"),
  });
}

function cgroupResources({ cpuRequest, cpuLimit, memoryLimit }: Amounts) {
  const shares = Math.floor(milli(cpuRequest) * 1.024);
  const quota = Math.max(milli(cpuLimit) * (periodMicroseconds / 1000), 1000);
  return {
    cpuShares: Long.fromNumber(Math.min(Math.max(shares, 2), 262_144)),
    ...(cpuLimit > 0 ? { cpuPeriod: Long.fromNumber(periodMicroseconds), cpuQuota: Long.fromNumber(quota) } : {}),
    ...(memoryLimit > 0 ? { memoryLimitInBytes: Long.fromNumber(Math.ceil(memoryLimit)) } : {}),
  };
}

/** Thousandths of a CPU, rounded up. */
function milli(cpus: number): number {
  return Math.ceil(Number((cpus * 1000).toFixed(6)));
}

/** The more of the node's memory is requested, the later the OOM killer selects the container. */
function oomScore(spec: PodSpec, container: Container): number {
  const qos = qosClass(spec);
  if (qos === "Guaranteed") return -997;
  if (qos === "BestEffort") return 1000;
  const score = (request: number) => 1000 - Math.floor((1000 * request) / totalmem());
  const own = score(amounts(container).memoryRequest);
  // A sidecar must not be killed before the containers that need it.
  const isSidecar = container.restartPolicy === "Always";
  const least = Math.min(...spec.containers.map((each) => amounts(each).memoryRequest));
  return Math.min(Math.max(isSidecar ? Math.min(own, score(least)) : own, 3), 999);
}
