// SELinux: what asks for labels is refused by name, because Keelson sets none.
//
// Options are a confinement that the pod would not have, on any host. Relabelling makes a volume's files accessible to
// a container's label: a host without SELinux has nothing to relabel, and clients ask there too (critest on every
// mount; the kubelet only where SELinux is enabled). Privileged containers are not confined (CRI v1, privileged).

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { podErrors } from "../errors.ts";
import type { Mount, SelinuxOptions } from "../types.ts";

/** `object`: the pod or container that asks. */
export function refuseSelinuxOptions(
  object: string,
  { selinux, privileged }: { readonly selinux?: SelinuxOptions; readonly privileged: boolean },
): void {
  if (selinux === undefined || privileged) return;
  const { user, role, type, level } = selinux;
  const label = [user, role, type, level].join(":");
  if (label !== ":::") throw podErrors.selinuxOptions({ object, label });
}

/** `selinuxfs`: where the kernel shows an active SELinux. */
export async function refuseRelabelling(mounts: readonly Mount[], selinuxfs = "/sys/fs/selinux"): Promise<void> {
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
