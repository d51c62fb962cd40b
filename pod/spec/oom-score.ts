// How low a container's OOM score may be. Sources: proc_pid_oom_score_adj(5), capabilities(7).

import { readFile } from "node:fs/promises";

const capSysResource = 24n;
const lowest = -1000;

/**
 * Without CAP_SYS_RESOURCE nobody lowers a score, and runc and crun fail a container that asks for it, as those of
 * Guaranteed pods do: it gets this process's own instead.
 */
export async function lowestOomScore(hostCapabilities: bigint): Promise<number> {
  if (((hostCapabilities >> capSysResource) & 1n) === 1n) return lowest;
  return Number(await readFile("/proc/self/oom_score_adj", "utf8"));
}
