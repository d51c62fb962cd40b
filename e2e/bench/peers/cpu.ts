// CPU time by cgroup: of all that was ever in it and below it, ended processes and removed cgroups included.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { cgroupHierarchies } from "../../fixtures/kubernetes/sealed.ts";

/** What a server does after its answer belongs to the call as well. */
const settleMs = 50;

/** Milliseconds so far. */
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

/** The same, once what the last call left behind has been done. */
export async function settledCpu(cgroup: string): Promise<number> {
  await delay(settleMs);
  return await cgroupCpu(cgroup);
}

let known: Promise<string[]> | undefined;
/** They stay what they are while the bench runs. */
function hierarchies(): Promise<string[]> {
  known ??= cgroupHierarchies();
  return known;
}
