// What the figures were measured on.

import { readFile } from "node:fs/promises";
import { cpus, release, totalmem } from "node:os";

/** One line. */
export async function describeMachine(): Promise<string> {
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  const [v1, v2] = [mounts.includes(" - cgroup "), mounts.includes(" - cgroup2 ")];
  const cgroups = v1 ? (v2 ? "cgroup v1 (hybrid)" : "cgroup v1") : "cgroup v2";
  const [cpu] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${cpus().length} × ${cpu?.model ?? "processor"}, ${memory} GiB, Linux ${release()}, ${cgroups}`;
}
