// The default AppArmor profile of containers, equivalent to those of Docker, containerd and CRI-O. Loaded at the
// daemon's start, where it replaces the profile of an older keelson, also for running containers.
//
// It is a second layer behind mounts and capabilities, in case one of those is bypassed: it denies writes to the host's
// files below /proc and /sys, mounting, and tracing or signalling processes outside.
// Sources: apparmor.d(5), apparmor_parser(8).

import { access, readFile } from "node:fs/promises";
import { messageOf, runProgram } from "../../native/index.ts";

export const defaultProfileName = "keelson-default";

/** State of the profile. `missing`: AppArmor is on, but the profile could not be loaded. */
export type DefaultProfile =
  | { readonly kind: "off" | "loaded" }
  | { readonly kind: "missing"; readonly reason: string };

const enabledFile = "/sys/module/apparmor/parameters/enabled";
/**
 * Pins the ABI: older parsers would reject rules of newer classes, and without rules a newer class is denied entirely.
 */
const abiFile = "/etc/apparmor.d/abi/3.0";
const loadMs = 20_000;

export async function apparmorIsOn(enabled = enabledFile): Promise<boolean> {
  return await readFile(enabled, "utf8").then(
    (text) => text.startsWith("Y"),
    () => false,
  );
}

export async function loadDefaultProfile(): Promise<DefaultProfile> {
  if (!(await apparmorIsOn())) return { kind: "off" };
  const hasAbi = await access(abiFile).then(
    () => true,
    () => false,
  );
  try {
    const { code, stderr } = await runProgram(
      "apparmor_parser",
      ["--replace", "--skip-cache"],
      AbortSignal.timeout(loadMs),
      { input: defaultProfile(hasAbi), stdout: { limit: 64 << 10 } },
    );
    if (code === 0) return { kind: "loaded" };
    return { kind: "missing", reason: stderr.trim() || `apparmor_parser exited with ${code}` };
  } catch (error) {
    return { kind: "missing", reason: messageOf(error) };
  }
}

/** The profile's text. It uses paths only, and no includes, which differ between hosts. */
export function defaultProfile(hasAbi: boolean): string {
  return `${hasAbi ? "abi <abi/3.0>,\n" : ""}
profile ${defaultProfileName} flags=(attach_disconnected,mediate_deleted) {
  file,
  network,
  unix,
  capability,
  umount,

  # Signals from the host's tools, and from OCI runtimes with their own profiles; anything between containers.
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send, receive) peer=${defaultProfileName},
  ptrace (trace, read, tracedby, readby) peer=${defaultProfileName},

  # Below /proc, allow writes only to process directories and to /proc/sys/kernel/shm*.
  deny /proc/* w,
  deny /proc/[^1-9s]*/** w,
  deny /proc/s[^y]*/** w,
  deny /proc/sy[^s]*/** w,
  deny /proc/sys?*/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/kernel/{?,??,[^s]**,s[^h]**,sh[^m]**} w,
  deny /proc/{sysrq-trigger,kcore,kmem,mem} rwklx,

  # Below /sys, allow writes only to cgroups.
  deny /sys/[^f]** wklx,
  deny /sys/f[^s]** wklx,
  deny /sys/fs/[^c]** wklx,
  deny /sys/fs/c[^g]** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

  deny mount,
}
`;
}
