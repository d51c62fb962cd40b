// Pods with one container, as a kubelet requests an ordinary one: an existing cgroup for the pod, a network, a PID
// namespace per container, no seccomp profile specified.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import Long from "long";
import { cgroupHierarchies, makeCgroup, removeCgroup } from "../../fixtures/kubernetes/sealed.ts";
import { images } from "./images.ts";
import type { Server } from "./servers/server.ts";

/** The server that runs a pod. */
export type Callee = Pick<Server, "client" | "cgroup" | "logs">;

export interface PodPlan {
  readonly config: ReturnType<typeof podConfig>;
  readonly cgroup: string;
  /** The container's command. */
  readonly command: readonly string[];
  readonly mounts: readonly { readonly containerPath: string; readonly hostPath: string; readonly readonly: boolean }[];
}

export interface Pod extends PodPlan {
  readonly podSandboxId: string;
  readonly containerId: string;
}

/** NamespaceMode.CONTAINER */
const pidNamespaces = { pid: 1 };
/** The kernel ignores SIGTERM for PID 1 without a handler; the trap makes the shell exit. */
const obedient = ["sh", "-c", 'trap "exit 0" TERM; sleep 3600 & wait'];
const gracePeriod = Long.fromNumber(10);

/** Creates what a kubelet creates first: the pod's cgroup and log directory. */
export async function planPod(
  { cgroup: parent, logs }: Callee,
  name: string,
  { command = obedient, mounts = [] }: Partial<Pick<PodPlan, "command" | "mounts">> = {},
): Promise<PodPlan> {
  const cgroup = join(parent, "pods", name);
  const logDirectory = join(logs, name);
  await Promise.all([makeCgroup(cgroup), mkdir(logDirectory, { recursive: true })]);
  return { config: podConfig(name, cgroup, logDirectory), cgroup, command, mounts };
}

export async function runSandbox({ client }: Callee, { config }: PodPlan): Promise<string> {
  return (await client.runPodSandbox({ config })).podSandboxId;
}

export async function createContainer({ client }: Callee, plan: PodPlan, podSandboxId: string): Promise<string> {
  const { containerId } = await client.createContainer({
    podSandboxId,
    sandboxConfig: plan.config,
    config: {
      metadata: { name: "main", attempt: 0 },
      image: { image: images.busybox },
      command: [...plan.command],
      mounts: [...plan.mounts],
      logPath: "main.log",
      linux: {
        resources: { oomScoreAdj: Long.fromNumber(1000) },
        securityContext: { namespaceOptions: pidNamespaces },
      },
    },
  });
  return containerId;
}

export async function startPod(server: Callee, plan: PodPlan): Promise<Pod> {
  const podSandboxId = await runSandbox(server, plan);
  const containerId = await createContainer(server, plan, podSandboxId);
  await server.client.startContainer({ containerId });
  return { ...plan, podSandboxId, containerId };
}

export async function stopContainer({ client }: Callee, { containerId }: Pod): Promise<void> {
  await client.stopContainer({ containerId, timeout: gracePeriod });
}

/** The calls of a kubelet that removes a pod, after the container was stopped. */
export async function removePod(server: Callee, pod: Pod): Promise<void> {
  await server.client.stopPodSandbox({ podSandboxId: pod.podSandboxId });
  await server.client.removeContainer({ containerId: pod.containerId });
  await server.client.removePodSandbox({ podSandboxId: pod.podSandboxId });
  await removePodCgroup(pod);
}

/** The last step of a kubelet. */
export async function removePodCgroup({ cgroup }: PodPlan): Promise<void> {
  for (const hierarchy of await cgroupHierarchies()) await removeCgroup(join(hierarchy, cgroup));
}

function podConfig(name: string, cgroupParent: string, logDirectory: string) {
  return {
    metadata: { name, namespace: "bench", uid: `uid-${name}`, attempt: 0 },
    hostname: name,
    logDirectory,
    linux: { cgroupParent, securityContext: { namespaceOptions: pidNamespaces } },
  };
}
