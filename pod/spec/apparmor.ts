// The name of the AppArmor profile of a container's processes, which must be loaded.
// Source: apparmor(7); CRI v1 SecurityProfile.

import { readFile } from "node:fs/promises";
import { podErrors } from "../errors.ts";
import type { ContainerSecurity } from "../types.ts";
import { type DefaultProfile, defaultProfileName } from "./apparmor-default.ts";

/** One profile per line: `cri-containerd.apparmor.d (enforce)`. Does not exist without AppArmor. */
const loadedProfiles = "/sys/kernel/security/apparmor/profiles";

/** Undefined means no profile, as for privileged containers. */
export async function apparmorFor(
  { apparmor, privileged }: Pick<ContainerSecurity, "apparmor" | "privileged">,
  ownDefault: DefaultProfile,
  profilesFile = loadedProfiles,
): Promise<string | undefined> {
  if (privileged || apparmor?.type === "unconfined") return undefined;
  if (apparmor?.type === "localhost") {
    await refuseUnloaded(apparmor.path, profilesFile);
    return apparmor.path;
  }
  if (ownDefault.kind === "loaded") return defaultProfileName;
  // Containers that do not request a profile run without one, as with AppArmor off; the daemon has logged a warning.
  if (ownDefault.kind === "missing" && apparmor !== undefined) {
    throw podErrors.apparmorDefault({ profile: defaultProfileName, reason: ownDefault.reason });
  }
  return undefined;
}

async function refuseUnloaded(profile: string, profilesFile: string): Promise<void> {
  const loaded = await readFile(profilesFile, "utf8").catch(() => undefined);
  if (loaded === undefined) throw podErrors.apparmorUnavailable({ profile });
  const isLoaded = loaded.split("\n").some((line) => line.startsWith(`${profile} (`));
  if (!isLoaded) throw podErrors.apparmorUnknown({ profile });
}
