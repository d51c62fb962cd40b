// Finds where this host's cgroup hierarchies are mounted. The result is passed to monitors: the mount table grows with
// each pod, and reading it takes longer than most other steps of a start.
// Source: cgroups(7).

import { type MountEntry, readMountTable } from "./mount-table.ts";

export interface CgroupTree {
  /** True when all controllers are on v2. */
  readonly unified: boolean;
  /** Mount point of v2, also on a hybrid host; empty if there is none. */
  readonly v2: string;
  /** Controller ("memory") or named hierarchy ("name=systemd") to mount point. */
  readonly v1: ReadonlyMap<string, string>;
}

const v1Controllers: ReadonlySet<string> = new Set([
  ...["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"],
  ...["net_cls", "net_prio", "perf_event", "hugetlb", "rdma", "misc"],
]);

export async function detectCgroups(): Promise<CgroupTree> {
  return findHierarchies(await readMountTable());
}

/** If a hierarchy is mounted several times, the first mount of its root counts. */
export function findHierarchies(table: readonly MountEntry[]): CgroupTree {
  const v1 = new Map<string, string>();
  let v2 = "";
  for (const { root, at, type, options } of table) {
    if (root !== "/") continue;
    if (type === "cgroup2" && v2 === "") v2 = at;
    if (type !== "cgroup") continue;
    for (const option of options.split(",")) {
      const isHierarchy = v1Controllers.has(option) || option.startsWith("name=");
      if (isHierarchy && !v1.has(option)) v1.set(option, at);
    }
  }
  return { unified: v1.size === 0, v2, v1 };
}

const v2Options: ReadonlySet<string> = new Set([
  "nsdelegate",
  "favordynmods",
  "memory_localevents",
  "memory_recursiveprot",
  "memory_hugetlb_accounting",
  "pids_localevents",
]);

/**
 * The cgroup v2 mount options of a v2-only host. Mounting cgroup v2 in the host's cgroup namespace resets them for the
 * whole host, so such a mount must repeat them. Source: cgroup-v2.rst ("Mounting").
 */
export function hostCgroupOptions(table: readonly MountEntry[]): string[] {
  if (!findHierarchies(table).unified) return [];
  const options = table.find(({ type }) => type === "cgroup2")?.options ?? "";
  return options.split(",").filter((option) => v2Options.has(option));
}

/** In the form used by sandbox.json (PROTOCOL.md, "Start"). */
export function monitorHierarchies({ v2, v1 }: CgroupTree): object {
  return { v2, v1: Object.fromEntries(v1) };
}
