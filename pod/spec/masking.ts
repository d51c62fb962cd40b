// The paths in /proc and /sys that are masked or read-only in a container.
// Sources: OCI config-linux.md ("Masked Paths", "Readonly Paths"); CRI v1 masked_paths, readonly_paths;
// Kubernetes' procMount; GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p, CVE-2018-10892.

import { access, readdir } from "node:fs/promises";
import { join, posix } from "node:path";
import type { ContainerSecurity } from "../types.ts";

export interface HiddenPaths {
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
}

const defaultMasked = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/sys/devices/virtual/powercap",
  "/sys/firmware",
];

const defaultReadonly = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const cpuDirectory = "/sys/devices/system/cpu";

/**
 * An empty list means the defaults. With a user namespace it means that nothing is hidden: the kubelet passes
 * Kubernetes' procMount Unmasked as empty lists, which is allowed only there, because that root cannot change the
 * host's settings.
 */
export function hiddenPaths(
  { privileged, maskedPaths, readonlyPaths }: ContainerSecurity,
  ownUsers: boolean,
  throttlePaths: readonly string[],
): HiddenPaths {
  if (privileged) return { maskedPaths: [], readonlyPaths: [] };
  const masks = maskedPaths.length > 0 || !ownUsers;
  return {
    maskedPaths: masks ? [...new Set([...maskedPaths.map(plain), ...defaultMasked, ...throttlePaths])] : [],
    readonlyPaths: readonlyPaths.length > 0 || ownUsers ? readonlyPaths.map(plain) : defaultReadonly,
  };
}

/** Normalizes the path: with a trailing slash, a file would seem not to exist and be left unmasked. */
function plain(path: string): string {
  return posix.resolve("/", path);
}

/**
 * The thermal_throttle directories, whose counters leak the activity of other users of a CPU. If any CPU has one, those
 * of all CPUs are returned, because an offline CPU may be brought up while a container runs.
 */
export async function throttlePaths(cpus = cpuDirectory): Promise<string[]> {
  const names = (await readdir(cpus).catch(() => [])).filter((name) => /^cpu\d+$/.test(name));
  const present = names.map((name) => access(join(cpus, name, "thermal_throttle")));
  if ((await Promise.allSettled(present)).every(({ status }) => status === "rejected")) return [];
  return names.map((name) => join(cpuDirectory, name, "thermal_throttle"));
}
