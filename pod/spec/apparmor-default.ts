// The AppArmor profile of containers whose pod says nothing of one: the effect of the field's default profiles (Docker's,
// containerd's, CRI-O's). Loaded at the daemon's start, over one of an older keelson; containers that run go on under it.
//
// It repeats what mounts and capabilities refuse already, for the case that one of them is got round: nothing that belongs
// to the host is written below /proc and /sys, nothing is mounted, no process outside is traced or signalled.
// Sources: apparmor.d(5), apparmor_parser(8).

import { access, readFile } from "node:fs/promises";
import { messageOf, runProgram } from "../../native/index.ts";

export const defaultProfileName = "keelson-default";

/** What there is of it. A reason stands where AppArmor is on and the profile could not be loaded. */
export type DefaultProfile =
  | { readonly kind: "off" | "loaded" }
  | { readonly kind: "missing"; readonly reason: string };

const enabledFile = "/sys/module/apparmor/parameters/enabled";
/** Rules of classes that came later than this ABI would be refused by older parsers, and missing ones deny all of a class. */
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
    return { kind: "missing", reason: stderr.trim() || `apparmor_parser ended with ${code}` };
  } catch (error) {
    return { kind: "missing", reason: messageOf(error) };
  }
}

/** By paths alone, without includes, which differ from host to host. */
export function defaultProfile(hasAbi: boolean): string {
  return `${hasAbi ? "abi <abi/3.0>,\n" : ""}
profile ${defaultProfileName} flags=(attach_disconnected,mediate_deleted) {
  file,
  network,
  unix,
  capability,
  umount,

  # From the host's tools, and from OCI runtimes that have profiles of these names; among themselves anything.
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send, receive) peer=${defaultProfileName},
  ptrace (trace, read, tracedby, readby) peer=${defaultProfileName},

  # Below /proc a container writes to its processes, and to shm* of sysctl's kernel.
  deny /proc/* w,
  deny /proc/[^1-9s]*/** w,
  deny /proc/s[^y]*/** w,
  deny /proc/sy[^s]*/** w,
  deny /proc/sys?*/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/k[^e]** w,
  deny /proc/sys/kernel/{?,??,[^s]**,s[^h]**,sh[^m]**} w,
  deny /proc/{sysrq-trigger,kcore,kmem,mem} rwklx,

  # Below /sys only to its cgroup.
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
