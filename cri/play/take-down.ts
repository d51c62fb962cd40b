// Cleans up after a play: sandboxes, found by their label, and files.

import { type Host, mountsBelow } from "../../native/index.ts";
import { type Cri, stopContainer } from "./cri-client.ts";
import { workloadLabel } from "./pod-config.ts";

/** Removes a directory, unmounting the volumes in it. It may be missing. */
export async function removeFiles(host: Pick<Host, "unmount" | "removeTree">, directory: string): Promise<void> {
  for (const mount of await mountsBelow(directory)) await host.unmount(mount);
  await host.removeTree(directory);
}

/** Stops and removes every sandbox of a workload. */
export async function removeSandboxes(cri: Cri, workload: string, graceSeconds: number): Promise<void> {
  const labelSelector = { [workloadLabel]: workload };
  const [{ items }, { containers }] = await Promise.all([
    cri.listPodSandbox({ filter: { labelSelector } }),
    cri.listContainers({}),
  ]);
  await Promise.all(
    items.map(async ({ id }) => {
      const podSandboxId = id ?? "";
      const inside = containers.filter((each) => each.podSandboxId === podSandboxId);
      await Promise.all(inside.map(async (each) => await stopContainer(cri, each.id ?? "", graceSeconds)));
      await cri.stopPodSandbox({ podSandboxId });
      await cri.removePodSandbox({ podSandboxId });
    }),
  );
}
