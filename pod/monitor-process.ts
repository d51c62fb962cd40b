// The process of a pod's monitor: found by its command line, ended by force.

import { existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { killProcess, processIds, readStart } from "../native/index.ts";
import { limits } from "./environment.ts";

/** A monitor that is still making its sandbox would go on with it behind our back. `pid` 0: it is looked for. */
export async function killMonitor(podDirectory: string, pid: number): Promise<void> {
  // Mostly it has ended: /proc tells that at once, and for less than a file that cannot be opened.
  const candidates = pid > 0 ? [pid].filter((known) => existsSync(`/proc/${known}`)) : await processIds();
  const until = performance.now() + limits.shutdown;
  for (
    let monitors = await ofPod(candidates, podDirectory);
    monitors.length > 0 && performance.now() < until;
    monitors = await ofPod(monitors, podDirectory)
  ) {
    for (const pid of monitors) killProcess(pid);
    await delay(2);
  }
}

/** The program's name, "run", and the longest path. */
const commandLineBytes = 5000;

/** The beginning of a process's command line; empty for a dead one. */
export async function commandLine(pid: number): Promise<string> {
  const start = await readStart(`/proc/${pid}/cmdline`, commandLineBytes).catch(() => undefined);
  return start?.toString() ?? "";
}

/** Those whose command line names this very pod: a number may be somebody else's by now. A dead process has none. */
async function ofPod(pids: readonly number[], podDirectory: string): Promise<number[]> {
  const lines = await Promise.all(pids.map(commandLine));
  return pids.filter((_, index) => lines[index]?.includes(`\0run\0${podDirectory}\0`));
}
