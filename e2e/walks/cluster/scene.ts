// The environment of each part: the cluster, its own namespace, and helpers to create pods and wait for their state.

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { Writable } from "node:stream";
import { promisify } from "node:util";
import {
  Exec,
  type V1Container,
  type V1ContainerStatus,
  type V1Pod,
  type V1PodSpec,
  type V1Status,
} from "@kubernetes/client-node";
import type { Cluster } from "../../fixtures/kubernetes/cluster.ts";
import type { Node } from "../../fixtures/kubernetes/node.ts";
import { toolsImage } from "./images.ts";

export interface Scene {
  readonly cluster: Cluster;
  /** The node where pods run by default. */
  readonly node: Node;
  readonly namespace: string;
  /** The RuntimeClass of all pods; undefined for the daemon's default handler. */
  readonly runtimeClass: string | undefined;
  /** Runs and prints a check. A failure is counted, and the other checks still run. */
  check(name: string, action: () => Promise<void>): Promise<void>;
  say(line: string): void;
  /** Creates a pod on the node, with a grace period of one second. */
  create(name: string, spec: V1PodSpec, metadata?: V1Pod["metadata"]): Promise<V1Pod>;
  /** Waits until `holds` returns a value for the pod; fails if the pod is removed. */
  when<Result>(
    name: string,
    what: string,
    holds: (pod: V1Pod) => Result | undefined,
    deadlineMs?: number,
  ): Promise<Result>;
  /** Waits until all containers are ready. */
  ready(name: string, deadlineMs?: number): Promise<V1Pod>;
  /** Waits until the pod has ended; returns its phase. */
  ended(name: string, deadlineMs?: number): Promise<string>;
  log(pod: string, container?: string): Promise<string>;
  exec(pod: string, container: string, ...command: readonly string[]): Promise<ExecResult>;
  /** Deletes the pod and waits until it is removed; returns its last container statuses. */
  remove(name: string, graceSeconds?: number): Promise<readonly V1ContainerStatus[]>;
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Undefined on success. */
  readonly failure: string | undefined;
}

const defaultDeadlineMs = 60_000;

/** A container that runs a shell script. */
export function shell(name: string, script: string, more: Partial<V1Container> = {}): V1Container {
  return { name, image: toolsImage, command: ["sh", "-c", script], ...more };
}

/** A container that runs agnhost. */
export function agnhost(name: string, words: readonly string[], more: Partial<V1Container> = {}): V1Container {
  return { name, image: toolsImage, command: ["agnhost", ...words], ...more };
}

/** A web server that reports its host name, its client's address and so on; the UDP port above makes it healthy. */
export function web(name: string, port = 8080): V1Container {
  return agnhost(name, ["netexec", `--http-port=${port}`, `--udp-port=${port + 1000}`], {
    readinessProbe: { httpGet: { path: "/healthz", port }, periodSeconds: 1 },
  });
}

/** Does nothing, and exits immediately on SIGTERM. */
export const idle = "trap 'exit 0' TERM; while true; do sleep 3600 & wait $!; done";

export function createScene(
  cluster: Cluster,
  node: Node,
  namespace: string,
  runtimeClass: string | undefined,
  report: Pick<Scene, "check" | "say">,
): Scene {
  const { core, kubeConfig } = cluster;
  const find = (pods: readonly V1Pod[], name: string) => pods.find(({ metadata }) => metadata?.name === name);
  const when: Scene["when"] = (name, what, holds, deadlineMs = defaultDeadlineMs) =>
    cluster.pods(namespace, `${name}: ${what}`, deadlineMs, (pods) => {
      const pod = find(pods, name);
      if (pod === undefined) throw new Error(`the pod ${name} no longer exists: ${what}`);
      return holds(pod);
    });
  return {
    cluster,
    node,
    namespace,
    runtimeClass,
    ...report,
    when,
    create: (name, spec, metadata = {}) =>
      core.createNamespacedPod({
        namespace,
        body: {
          metadata: { ...metadata, name },
          spec: {
            nodeSelector: { "kubernetes.io/hostname": node.name },
            terminationGracePeriodSeconds: 1,
            ...(runtimeClass === undefined ? {} : { runtimeClassName: runtimeClass }),
            ...spec,
          },
        },
      }),
    ready: (name, deadlineMs) => when(name, "ready", (pod) => (isReady(pod) ? pod : undefined), deadlineMs),
    ended: (name, deadlineMs) =>
      when(
        name,
        "ended",
        ({ status }) => (status?.phase === "Succeeded" || status?.phase === "Failed" ? status.phase : undefined),
        deadlineMs,
      ),
    log: (name, container) =>
      core.readNamespacedPodLog({ namespace, name, ...(container === undefined ? {} : { container }) }),
    exec: (pod, container, ...command) => execIn(new Exec(kubeConfig), namespace, pod, container, command),
    async remove(name, graceSeconds) {
      let last: readonly V1ContainerStatus[] = [];
      const deleted = core.deleteNamespacedPod({
        namespace,
        name,
        ...(graceSeconds === undefined ? {} : { gracePeriodSeconds: graceSeconds }),
      });
      await cluster.pods(namespace, `${name} is removed`, defaultDeadlineMs, (pods) => {
        const pod = find(pods, name);
        if (pod === undefined) return true;
        last = pod.status?.containerStatuses ?? [];
        return undefined;
      });
      await deleted.catch(() => "removed in the meantime");
      return last;
    },
  };
}

export function isReady(pod: V1Pod): boolean {
  return pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}

/** The status of a container of any kind. */
export function statusOf(pod: V1Pod, container: string): V1ContainerStatus | undefined {
  const { containerStatuses = [], initContainerStatuses = [], ephemeralContainerStatuses = [] } = pod.status ?? {};
  return [...containerStatuses, ...initContainerStatuses, ...ephemeralContainerStatuses].find(
    ({ name }) => name === container,
  );
}

/** `containerd://…` without its scheme. */
export function containerId(status: V1ContainerStatus | undefined): string {
  return status?.containerID?.split("//")[1] ?? "";
}

/** A file in a cgroup below the node's, from the hierarchy that has it. */
export async function cgroupFile(node: Node, path: string, v1: string, v2: string): Promise<string> {
  const [controller] = v1.split(".");
  const legacy = await readFile(`/sys/fs/cgroup/${controller}${node.cgroup}/${path}/${v1}`, "utf8").catch(
    () => undefined,
  );
  return (legacy ?? (await readFile(`/sys/fs/cgroup${node.cgroup}/${path}/${v2}`, "utf8"))).trim();
}

export async function output(program: string, ...words: readonly string[]): Promise<string> {
  return (await promisify(execFile)(program, words, { timeout: 60_000, maxBuffer: 16 << 20 })).stdout;
}

/** Collects everything that is written to it. */
export function collector(): { readonly stream: Writable; readonly text: () => string } {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk);
      done();
    },
  });
  return { stream, text: () => Buffer.concat(chunks).toString() };
}

async function execIn(
  exec: Exec,
  namespace: string,
  pod: string,
  container: string,
  command: readonly string[],
): Promise<ExecResult> {
  const [stdout, stderr] = [collector(), collector()];
  const status = Promise.withResolvers<V1Status>();
  const socket = await exec.exec(
    namespace,
    pod,
    container,
    [...command],
    stdout.stream,
    stderr.stream,
    null,
    false,
    status.resolve,
  );
  socket.onclose = () => status.reject(new Error(`exec of ${command.join(" ")} ended without a status`));
  const { status: outcome, message } = await status.promise;
  return {
    stdout: stdout.text(),
    stderr: stderr.text(),
    failure: outcome === "Success" ? undefined : (message ?? outcome),
  };
}
