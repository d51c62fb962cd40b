// SELinux: where it is active, what asks for labels is refused by name, because Keelson sets none.
//
// Options are a confinement that the pod would not have there. A kernel without SELinux confines nothing by labels,
// whatever the runtime, and pods that carry them for other nodes run (specs of Kubernetes' conformance suite do so);
// nor has it files to relabel. Privileged containers are not confined (CRI v1, privileged).

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { podErrors } from "../errors.ts";
import type { Mount, SelinuxOptions } from "../types.ts";

/** `object`: the pod or container that asks. `selinuxfs`: where the kernel shows an active SELinux. */
export async function refuseSelinuxOptions(
  object: string,
  { selinux, privileged }: { readonly selinux?: SelinuxOptions; readonly privileged: boolean },
  selinuxfs?: string,
): Promise<void> {
  if (selinux === undefined || privileged) return;
  const { user, role, type, level } = selinux;
  const label = [user, role, type, level].join(":");
  if (label !== ":::" && (await selinuxIsActive(selinuxfs))) throw podErrors.selinuxOptions({ object, label });
}

export async function refuseRelabelling(mounts: readonly Mount[], selinuxfs?: string): Promise<void> {
  const relabelled = mounts.find((mount) => mount.selinuxRelabel);
  if (relabelled !== undefined && (await selinuxIsActive(selinuxfs)))
    throw podErrors.selinuxRelabel({ source: relabelled.hostPath, target: relabelled.containerPath });
}

/** Mounted only while SELinux is enabled, enforcing or permissive; it may hold no policy yet, which is taken for active. */
export async function selinuxIsActive(selinuxfs = "/sys/fs/selinux"): Promise<boolean> {
  return await readFile(join(selinuxfs, "enforce")).then(
    () => true,
    () => false,
  );
}
