// The lowest OOM score adjustment that a container may have. Source: proc_pid_oom_score_adj(5).

import { readFile } from "node:fs/promises";
import { capabilitiesIn } from "./capabilities.ts";

const lowest = -1000;

/**
 * Without CAP_SYS_RESOURCE a process cannot lower the score, and runc and crun then fail containers that need it, such
 * as those of Guaranteed pods. Such containers get this process's own score instead.
 */
export async function lowestOomScore(hostCapabilities: bigint): Promise<number> {
  if (capabilitiesIn(hostCapabilities).has("CAP_SYS_RESOURCE")) return lowest;
  return Number(await readFile("/proc/self/oom_score_adj", "utf8"));
}
