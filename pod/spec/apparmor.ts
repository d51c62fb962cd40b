// The AppArmor profile of a container's processes, by name: on a host that has AppArmor the profile must be loaded.
// Source: apparmor(7); CRI v1 SecurityProfile.

import { readFile } from "node:fs/promises";
import { podErrors } from "../errors.ts";
import type { ContainerSecurity } from "../types.ts";
import { type DefaultProfile, defaultProfileName } from "./apparmor-default.ts";

/** A line for each: `cri-containerd.apparmor.d (enforce)`. Missing without AppArmor. */
const loadedProfiles = "/sys/kernel/security/apparmor/profiles";

/** Undefined for no profile. Privileged containers have none. */
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
  // Who asks for nothing runs without it, as where AppArmor is off; the daemon has warned.
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
