// The process of a pod's monitor: found by its command line, killed if necessary.

import { existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { killProcess, processIds, readStart } from "../native/index.ts";
import { limits } from "./environment.ts";

/** Kills the pod's monitor, which may otherwise still be setting up its sandbox. `pid` 0: searches all processes. */
export async function killMonitor(podDirectory: string, pid: number): Promise<void> {
  // Usually it has exited; checking /proc/<pid> is cheaper than failing to open a file there.
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

/** Enough for the program's name, "run", and the longest path. */
const commandLineBytes = 5000;

/** The beginning of a process's command line; empty for a dead one. */
export async function commandLine(pid: number): Promise<string> {
  const start = await readStart(`/proc/${pid}/cmdline`, commandLineBytes).catch(() => undefined);
  return start?.toString() ?? "";
}

/** The pids whose command line names this pod, since pids may have been reused. A dead process has no command line. */
async function ofPod(pids: readonly number[], podDirectory: string): Promise<number[]> {
  const lines = await Promise.all(pids.map(commandLine));
  return pids.filter((_, index) => lines[index]?.includes(`\0run\0${podDirectory}\0`));
}
