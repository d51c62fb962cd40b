// Terminates plugins that a killed daemon left running, before anything is done to the same sandboxes.
//
// A plugin outlives the daemon that started it. Its ADD or DEL must not run concurrently with the next daemon's
// (CNI spec 1.1.0, section 2: no parallel operations on one container).

import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { killProcess, type Log, processIds, readStart } from "../native/index.ts";

/** How long a DEL may take to finish, and a killed plugin to exit. */
const finishedWithinMs = 5000;
const goneWithinMs = 2000;
/** How often a process in the middle of execve is read again: execve takes a tenth of a millisecond. */
const execTries = 50;
/** More than a plugin's environment takes, including what a child of it may have added. */
const environmentBytes = 32 * 1024;

export interface Orphans {
  /** Resolves when no plugin of a previous daemon works on the sandbox; rejects if one cannot be killed. */
  end(sandboxId: string): Promise<void>;
}

/**
 * `sandboxIds`: those with leases of a previous daemon. All processes are scanned once, when first needed. Processes of
 * a sandbox are killed only when that sandbox is detached, since helpers that plugins leave at ADD serve a live pod.
 */
export function createOrphans(sandboxIds: ReadonlySet<string>, log: Log): Orphans {
  let owners: Promise<ReadonlySet<string>> | undefined;
  const ended = new Set<string>();
  return {
    async end(sandboxId) {
      if (!sandboxIds.has(sandboxId) || ended.has(sandboxId)) return;
      owners ??= findOwners(sandboxIds).catch((error: unknown) => {
        owners = undefined;
        throw error;
      });
      if ((await owners).has(sandboxId)) {
        const { killed, alive } = await endOrphans(sandboxId);
        if (killed.length > 0) log("warn", "killed network plugins of a previous daemon", { pids: killed.join(" ") });
        if (alive.length > 0)
          throw new Error(`network plugins of a previous daemon cannot be killed: processes ${alive.join(" ")}`);
      }
      ended.add(sandboxId);
    },
  };
}

interface Orphan {
  readonly sandboxId: string;
  readonly command: string;
}

/** The sandboxes for which a process is running. */
async function findOwners(sandboxIds: ReadonlySet<string>): Promise<ReadonlySet<string>> {
  const owners = new Set<string>();
  // Twice: a process that exits during a scan may just have started another.
  for (let looks = 0; looks < 2; looks += 1)
    for (const { sandboxId } of (await findOrphans(sandboxIds, await processIds())).values()) owners.add(sandboxId);
  return owners;
}

/**
 * Lets every DEL for the sandbox finish, within a time limit (bridge, if killed between removing its link and its
 * rules, leaves the rules), and kills everything else that runs for it; `alive` are the processes that did not exit.
 */
async function endOrphans(sandboxId: string) {
  const only = new Set([sandboxId]);
  const found = await findOrphans(only, await processIds());
  const deletions = [...found].filter(([, { command }]) => command === "DEL").map(([pid]) => pid);
  await gone(only, deletions, finishedWithinMs);
  const killed = new Set<number>();
  const until = performance.now() + goneWithinMs;
  let left = await findOrphans(only, await processIds());
  // All processes are scanned each time: one that exits may just have started another.
  while (left.size > 0 && performance.now() < until) {
    for (const pid of left.keys()) {
      killProcess(pid);
      killed.add(pid);
    }
    await delay(10);
    left = await findOrphans(only, await processIds());
  }
  return { killed: [...killed], alive: [...left.keys()] };
}

/** Waits until all of the processes have exited, or the time is over. */
async function gone(sandboxIds: ReadonlySet<string>, pids: readonly number[], limitMs: number): Promise<void> {
  const until = performance.now() + limitMs;
  while (performance.now() < until && (await findOrphans(sandboxIds, pids)).size > 0) await delay(10);
}

async function findOrphans(sandboxIds: ReadonlySet<string>, pids: readonly number[]): Promise<Map<number, Orphan>> {
  const orphans = new Map<number, Orphan>();
  await Promise.all(
    pids.map(async (pid) => {
      const orphan = await orphanOf(pid);
      if (orphan !== undefined && sandboxIds.has(orphan.sandboxId)) orphans.set(pid, orphan);
    }),
  );
  return orphans;
}

/** Recognized by CNI_COMMAND and CNI_CONTAINERID in its environment; undefined for other processes and dead ones. */
async function orphanOf(pid: number): Promise<Orphan | undefined> {
  const environment = (await environmentOf(pid)).split("\0");
  const read = (name: string) => environment.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
  const command = read("CNI_COMMAND");
  const sandboxId = read("CNI_CONTAINERID");
  return command === undefined || sandboxId === undefined ? undefined : { command, sandboxId };
}

/**
 * Empty for a process that has no environment, is dead, or may not be inspected. In the middle of execve a process may
 * seem to have none: then it is read again.
 */
async function environmentOf(pid: number): Promise<string> {
  for (let tries = 1; ; tries += 1) {
    const start = await readStart(`/proc/${pid}/environ`, environmentBytes).catch(() => undefined);
    if (start === undefined) return "";
    const environment = start.toString("latin1");
    if (environment !== "" || tries === execTries || !(await mayHaveEnvironment(pid))) return environment;
    await delay(1);
  }
}

/** From vsize, env_start and env_end of /proc/PID/stat, proc(5): the last two are 0 while execve sets up the memory. */
async function mayHaveEnvironment(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "");
  // The third field is the first one after the parenthesized command.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const field = (number: number) => Number(fields[number - 3]);
  return field(23) > 0 && (field(51) === 0 || field(50) !== field(51));
}
