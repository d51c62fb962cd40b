// Ends plugins that a killed daemon left running, before anything is done to the same sandboxes.
//
// A plugin outlives the daemon that started it. Its ADD must not go on beside the next daemon's DEL
// (CNI spec 1.1.0, section 2: no parallel operations on one container).

import { readdir, readFile } from "node:fs/promises";

/** How long a killed plugin may take to go. */
const goneWithinMs = 2000;

/** Kills every process that runs a CNI command for one of the sandboxes; resolves with their pids when they are gone. */
export async function endOrphans(sandboxIds: ReadonlySet<string>): Promise<readonly number[]> {
  if (sandboxIds.size === 0) return [];
  const orphans = await findOrphans(sandboxIds);
  for (const pid of orphans) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Gone by itself.
    }
  }
  const until = performance.now() + goneWithinMs;
  while (performance.now() < until && (await findOrphans(sandboxIds)).length > 0)
    await new Promise((resolve) => setTimeout(resolve, 10));
  return orphans;
}

async function findOrphans(sandboxIds: ReadonlySet<string>): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const owned = await Promise.all(pids.map(async (pid) => sandboxIds.has(await containerIdOf(pid))));
  return pids.filter((_, index) => owned[index]);
}

/** CNI_CONTAINERID of the process if it also has a CNI_COMMAND; empty for others, and for dead ones. */
async function containerIdOf(pid: number): Promise<string> {
  const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
  const variables = environment.split("\0");
  if (!variables.some((variable) => variable.startsWith("CNI_COMMAND="))) return "";
  return variables.find((variable) => variable.startsWith("CNI_CONTAINERID="))?.slice("CNI_CONTAINERID=".length) ?? "";
}
