// The cgroup files that contain CRI's statistics, which every server has to read.

import { access, readdir } from "node:fs/promises";
import { join } from "node:path";
import { cgroupHierarchies } from "../../../fixtures/kubernetes/sealed.ts";
import type { Pod } from "../pods.ts";

/** For both versions of cgroups; each hierarchy has some of them. */
const names = [
  ...["cpuacct.usage", "memory.usage_in_bytes", "memory.limit_in_bytes", "memory.memsw.usage_in_bytes"],
  ...["cpu.stat", "memory.current", "memory.max", "memory.swap.current"],
  ...["memory.stat", "cpu.pressure", "memory.pressure", "io.pressure"],
];

/** Files of a pod's containers, and of its own cgroup for "pods". */
export async function statsFiles(of: "containers" | "pods", { cgroup }: Pod): Promise<string[]> {
  const directories: string[] = [];
  for (const hierarchy of await cgroupHierarchies()) {
    const pod = join(hierarchy, cgroup);
    const entries = await readdir(pod, { withFileTypes: true }).catch(() => []);
    const containers = entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(pod, name));
    directories.push(...containers, ...(of === "pods" ? [pod] : []));
  }
  const files = directories.flatMap((directory) => names.map((name) => join(directory, name)));
  const isThere = await Promise.all(
    files.map((file) =>
      access(file).then(
        () => true,
        () => false,
      ),
    ),
  );
  return files.filter((_, index) => isThere[index]);
}
