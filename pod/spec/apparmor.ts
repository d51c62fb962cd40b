// The AppArmor profile of a container's processes, by name: on a host that has AppArmor the profile must be loaded.
// Keelson brings no profile of its own, so runtime/default is unconfined. Source: apparmor(7); CRI v1 SecurityProfile.

import { readFile } from "node:fs/promises";
import { podErrors } from "../errors.ts";
import type { ContainerSecurity } from "../types.ts";

/** A line for each: `cri-containerd.apparmor.d (enforce)`. Missing without AppArmor. */
const loadedProfiles = "/sys/kernel/security/apparmor/profiles";

/** Undefined for no profile. Privileged containers have none. */
export async function apparmorFor(
  { apparmor, privileged }: Pick<ContainerSecurity, "apparmor" | "privileged">,
  profilesFile = loadedProfiles,
): Promise<string | undefined> {
  if (apparmor?.type !== "localhost" || privileged) return undefined;
  const loaded = await readFile(profilesFile, "utf8").catch(() => undefined);
  if (loaded === undefined) throw podErrors.apparmorUnavailable({ profile: apparmor.path });
  const isLoaded = loaded.split("\n").some((line) => line.startsWith(`${apparmor.path} (`));
  if (!isLoaded) throw podErrors.apparmorUnknown({ profile: apparmor.path });
  return apparmor.path;
}
