// Converts a pod and its containers to CRI: PodSandboxConfig and ContainerConfig.

import { createHash } from "node:crypto";
import { join } from "node:path";
import { runtime } from "../api/generated/messages.js";
import { type EnvironmentSource, environmentOf, expand } from "./environment.ts";
import type { PodTemplate } from "./manifest.ts";
import { dnsConfig } from "./name-files.ts";
import { containerResources, podResources } from "./resources.ts";
import { containerSecurity, type ImageUser, sandboxSecurity } from "./security.ts";
import type { Container, PodSpec } from "./supported.ts";
import { mountsOf, type PreparedVolume } from "./volumes.ts";

/** One pod of a play. */
export interface PodIdentity {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** The title of its workload, "Job default/pi", by which `--down` finds it. */
  readonly workload: string;
  /** The id of this play, as several may be running. */
  readonly run: string;
  /** The directory of its files: volumes, logs, hosts. */
  readonly directory: string;
}

/** Labels of sandboxes and containers, in addition to the kubelet's own. */
export const workloadLabel = "io.keelson.play.workload";
export const runLabel = "io.keelson.play.run";

/** Seconds between the stop signal and SIGKILL. */
export function graceSecondsOf({ terminationGracePeriodSeconds = 30 }: PodSpec): number {
  return terminationGracePeriodSeconds;
}

export function hostnameOf(pod: PodIdentity, spec: PodSpec): string {
  return spec.hostname ?? pod.name.slice(0, 63).replace(/[-.]+$/, "");
}

export function logDirectory({ directory }: PodIdentity): string {
  return join(directory, "logs");
}

/** Relative to the log directory. */
export function logPath(container: string, restartCount: number): string {
  return `${container}/${restartCount}.log`;
}

export async function sandboxConfig(
  pod: PodIdentity,
  { spec, labels, annotations }: PodTemplate,
  attempt: number,
): Promise<runtime.v1.PodSandboxConfig.$Properties> {
  const { namespace, name, uid } = pod;
  return {
    metadata: { name, uid, namespace, attempt },
    hostname: spec.hostNetwork ? "" : hostnameOf(pod, spec),
    logDirectory: logDirectory(pod),
    dnsConfig: await dnsConfig(spec),
    portMappings: spec.hostNetwork ? [] : portMappings(spec),
    labels: { ...labels, ...podLabels(pod) },
    annotations: { ...annotations },
    linux: {
      securityContext: sandboxSecurity(spec),
      sysctls: Object.fromEntries((spec.securityContext?.sysctls ?? []).map(({ name, value }) => [name, value])),
      resources: podResources(spec),
    },
  };
}

function podLabels({ namespace, name, uid, workload, run }: PodIdentity): Record<string, string> {
  return {
    "io.kubernetes.pod.name": name,
    "io.kubernetes.pod.namespace": namespace,
    "io.kubernetes.pod.uid": uid,
    [workloadLabel]: workload,
    [runLabel]: run,
  };
}

function portMappings(spec: PodSpec): runtime.v1.PortMapping.$Properties[] {
  const sidecars = (spec.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === "Always");
  return [...sidecars, ...spec.containers].flatMap(({ ports = [] }) =>
    ports.flatMap(({ containerPort, hostPort, hostIP = "", protocol = "TCP" }) =>
      hostPort === undefined
        ? []
        : [{ containerPort, hostPort, hostIp: hostIP, protocol: protocols.get(protocol) ?? runtime.v1.Protocol.TCP }],
    ),
  );
}

const protocols: ReadonlyMap<string, runtime.v1.Protocol> = new Map([
  ["UDP", runtime.v1.Protocol.UDP],
  ["SCTP", runtime.v1.Protocol.SCTP],
]);

export interface ContainerParts {
  readonly pod: PodIdentity;
  readonly spec: PodSpec;
  readonly container: Container;
  readonly restartCount: number;
  readonly environment: EnvironmentSource;
  readonly volumes: ReadonlyMap<string, PreparedVolume>;
  readonly hostsFile: string;
  /** Returns the id of an image in the store. */
  readonly imageOf: (reference: string) => string;
  readonly imageUser: ImageUser;
}

export function containerConfig(parts: ContainerParts): runtime.v1.ContainerConfig.$Properties {
  const { pod, spec, container, restartCount, volumes, imageOf } = parts;
  const { name, image = "", command = [], args = [], workingDir = "", volumeMounts = [] } = container;
  const environment = environmentOf(container, parts.environment);
  const ownHosts = volumeMounts.some(({ mountPath }) => mountPath === "/etc/hosts");
  return {
    metadata: { name, attempt: restartCount },
    image: { image: imageOf(image), userSpecifiedImage: image },
    command: command.map((word) => expand(word, environment)),
    args: args.map((word) => expand(word, environment)),
    workingDir,
    envs: [...environment].map(([key, value]) => ({ key, value })),
    mounts: [
      ...mountsOf(container, volumes, imageOf),
      ...(ownHosts ? [] : [{ containerPath: "/etc/hosts", hostPath: parts.hostsFile, selinuxRelabel: true }]),
    ],
    labels: { ...podLabels(pod), "io.kubernetes.container.name": name },
    annotations: {
      "io.kubernetes.container.hash": createHash("sha256").update(JSON.stringify(container)).digest("hex").slice(0, 8),
      "io.kubernetes.container.restartCount": String(restartCount),
    },
    logPath: logPath(name, restartCount),
    stdin: container.stdin ?? false,
    stdinOnce: container.stdinOnce ?? false,
    tty: container.tty ?? false,
    linux: {
      resources: containerResources(spec, container),
      securityContext: containerSecurity(spec, container, parts.imageUser),
    },
  };
}
