// How low a container's OOM score may be. Source: proc_pid_oom_score_adj(5).

import { readFile } from "node:fs/promises";
import { capabilitiesIn } from "./capabilities.ts";

const lowest = -1000;

/**
 * Without CAP_SYS_RESOURCE nobody lowers a score, and runc and crun fail a container that asks for it, as those of
 * Guaranteed pods do: it gets this process's own instead.
 */
export async function lowestOomScore(hostCapabilities: bigint): Promise<number> {
  if (capabilitiesIn(hostCapabilities).has("CAP_SYS_RESOURCE")) return lowest;
  return Number(await readFile("/proc/self/oom_score_adj", "utf8"));
}
