// Pods of one container, as a kubelet asks for an ordinary one: a cgroup of the pod's own that is there before, a network,
// a PID namespace for each container, no seccomp profile named.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import Long from "long";
import { cgroupHierarchies, makeCgroup, removeCgroup } from "../../fixtures/kubernetes/sealed.ts";
import { images } from "./images.ts";
import type { Server } from "./servers/server.ts";

/** Whom pods are asked of. */
export type Callee = Pick<Server, "client" | "cgroup" | "logs">;

export interface PodPlan {
  readonly config: ReturnType<typeof podConfig>;
  readonly cgroup: string;
  /** What the container runs. */
  readonly command: readonly string[];
  readonly mounts: readonly { readonly containerPath: string; readonly hostPath: string; readonly readonly: boolean }[];
}

export interface Pod extends PodPlan {
  readonly podSandboxId: string;
  readonly containerId: string;
}

/** NamespaceMode.CONTAINER */
const pidNamespaces = { pid: 1 };
/** A shell that waits as PID 1 ignores TERM by the kernel's rule for init; the trap makes it obey. */
const obedient = ["sh", "-c", 'trap "exit 0" TERM; sleep 3600 & wait'];
const gracePeriod = Long.fromNumber(10);

/** Makes what a kubelet makes before: the pod's cgroup and log directory. */
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

/** What a kubelet calls for a pod that it takes away, once the container is stopped. */
export async function removePod(server: Callee, pod: Pod): Promise<void> {
  await server.client.stopPodSandbox({ podSandboxId: pod.podSandboxId });
  await server.client.removeContainer({ containerId: pod.containerId });
  await server.client.removePodSandbox({ podSandboxId: pod.podSandboxId });
  await removePodCgroup(pod);
}

/** As a kubelet does in the end. */
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
