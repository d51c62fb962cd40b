// CPU time by cgroup: of all processes that were ever in it or below it, including exited ones and removed cgroups.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { cgroupHierarchies } from "../../fixtures/kubernetes/sealed.ts";

/** A server's work after its response counts for the call, too. */
const settleMs = 50;

/** CPU milliseconds so far. */
export async function cgroupCpu(cgroup: string): Promise<number> {
  for (const hierarchy of await hierarchies()) {
    const directory = join(hierarchy, cgroup);
    const nanoseconds = await readFile(join(directory, "cpuacct.usage"), "utf8").catch(() => undefined);
    if (nanoseconds !== undefined) return Number(nanoseconds) / 1e6;
  }
  for (const hierarchy of await hierarchies()) {
    const text = await readFile(join(hierarchy, cgroup, "cpu.stat"), "utf8").catch(() => "");
    const microseconds = /^usage_usec (\d+)$/m.exec(text)?.[1];
    if (microseconds !== undefined) return Number(microseconds) / 1e3;
  }
  throw new Error(`no hierarchy counts the CPU time of ${cgroup}`);
}

/** As `cgroupCpu`, after a delay for the remaining work of the last call. */
export async function settledCpu(cgroup: string): Promise<number> {
  await delay(settleMs);
  return await cgroupCpu(cgroup);
}

let known: Promise<string[]> | undefined;
/** Cached: the hierarchies do not change during the benchmark. */
function hierarchies(): Promise<string[]> {
  known ??= cgroupHierarchies();
  return known;
}
