// Ends plugins that a killed daemon left running, before anything is done to the same sandboxes.
//
// A plugin outlives the daemon that started it. Its ADD or DEL must not go on beside the next daemon's
// (CNI spec 1.1.0, section 2: no parallel operations on one container).

import { readdir, readFile } from "node:fs/promises";
import type { Log } from "./types.ts";

/** How long a killed plugin may take to go. */
const goneWithinMs = 2000;

export interface Orphans {
  /** Resolves when no plugin of an earlier daemon works on the sandbox; rejects when one cannot be killed. */
  end(sandboxId: string): Promise<void>;
}

/** `sandboxIds`: those with leases of an earlier daemon. The processes are looked over once, at the first need. */
export function createOrphans(sandboxIds: ReadonlySet<string>, log: Log): Orphans {
  let sweep: Promise<ReadonlyMap<string, readonly number[]>> | undefined;
  const sweepAll = async (): Promise<ReadonlyMap<string, readonly number[]>> => {
    const { killed, alive } = await endOrphans(sandboxIds);
    if (killed.length > 0)
      log("warn", "network plugins of a daemon before this one killed", { pids: killed.join(" ") });
    return alive;
  };
  const ended = new Set<string>();
  return {
    async end(sandboxId) {
      if (!sandboxIds.has(sandboxId) || ended.has(sandboxId)) return;
      sweep ??= sweepAll();
      let survivors = (await sweep).get(sandboxId) ?? [];
      if (survivors.length > 0) survivors = (await endOrphans(new Set([sandboxId]))).alive.get(sandboxId) ?? [];
      if (survivors.length > 0)
        throw new Error(
          `network plugins of a daemon before this one cannot be killed: processes ${survivors.join(" ")}`,
        );
      ended.add(sandboxId);
    },
  };
}

/** Kills every process that runs a CNI command for one of the sandboxes; `alive` are those that would not go, by sandbox. */
async function endOrphans(sandboxIds: ReadonlySet<string>) {
  const orphans = await findOrphans(sandboxIds, await processIds());
  const killed = [...orphans.keys()];
  for (const pid of killed) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Gone by itself.
    }
  }
  const until = performance.now() + goneWithinMs;
  let left = await findOrphans(sandboxIds, killed);
  while (left.size > 0 && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    left = await findOrphans(sandboxIds, killed);
  }
  const alive = Map.groupBy(left.keys(), (pid) => left.get(pid) ?? "");
  return { killed, alive };
}

async function processIds(): Promise<number[]> {
  return (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
}

/** The sandbox of each process that runs a CNI command for one of them. */
async function findOrphans(sandboxIds: ReadonlySet<string>, pids: readonly number[]): Promise<Map<number, string>> {
  const orphans = new Map<number, string>();
  await Promise.all(
    pids.map(async (pid) => {
      const sandboxId = await containerIdOf(pid);
      if (sandboxIds.has(sandboxId)) orphans.set(pid, sandboxId);
    }),
  );
  return orphans;
}

/** CNI_CONTAINERID of the process if it also has a CNI_COMMAND; empty for others, and for dead ones. */
async function containerIdOf(pid: number): Promise<string> {
  const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
  const variables = environment.split("\0");
  if (!variables.some((variable) => variable.startsWith("CNI_COMMAND="))) return "";
  return variables.find((variable) => variable.startsWith("CNI_CONTAINERID="))?.slice("CNI_CONTAINERID=".length) ?? "";
}
