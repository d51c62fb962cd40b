// A pod with one container, for the benchmarks of a single daemon.

import { join } from "node:path";
import type { CriClient } from "../fixtures/client.ts";

/** cri-api's NamespaceMode. */
export const namespaceMode = { pod: 0, container: 1, node: 2 } as const;

export interface PodPlan {
  readonly name: string;
  readonly image: string;
  /** Parent of the logs. */
  readonly directory: string;
  readonly command: readonly string[];
  /** When absent, as a kubelet requests for an ordinary pod: a PID namespace per container. */
  readonly namespaces?: { readonly network?: number; readonly pid?: number };
}

/** The sandbox configuration of the plan. */
export function sandboxConfig({ name, directory, namespaces = { pid: namespaceMode.container } }: PodPlan) {
  return {
    metadata: { name, namespace: "bench", uid: name, attempt: 0 },
    hostname: name,
    logDirectory: join(directory, "logs", name),
    linux: { securityContext: { namespaceOptions: namespaces } },
  };
}

export function containerRequest(podSandboxId: string, plan: PodPlan) {
  const config = sandboxConfig(plan);
  return {
    podSandboxId,
    sandboxConfig: config,
    config: {
      metadata: { name: "c", attempt: 0 },
      image: { image: plan.image },
      command: [...plan.command],
      logPath: "c.log",
      linux: config.linux,
    },
  };
}

/** Starts the pod and its container. */
export async function startPod(client: CriClient, plan: PodPlan): Promise<{ sandbox: string; container: string }> {
  const { podSandboxId } = await client.runPodSandbox({ config: sandboxConfig(plan) });
  const { containerId } = await client.createContainer(containerRequest(podSandboxId, plan));
  await client.startContainer({ containerId });
  return { sandbox: podSandboxId, container: containerId };
}
