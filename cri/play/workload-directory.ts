// The directory of a played workload, <root>/play/<namespace>/<kind>/<name>: its pods' files, a lock that its player
// holds until it exits, for whatever reason, and the file `down`, with which another process asks it to stop.
//
// Directories are created and removed under the gate, a lock on <root>/play.lock that is only held briefly: a directory
// that one process has just created cannot be removed by another.

import { closeSync } from "node:fs";
import { access, mkdir, readdir, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Host, writeFile } from "../../native/index.ts";
import { holderOf, nameHolder } from "../lock-holder.ts";
import { playErrors } from "./errors.ts";
import { titleOf, type Workload } from "./manifest.ts";
import { removeFiles } from "./take-down.ts";

type Name = Pick<Workload, "kind" | "namespace" | "name">;
type Files = Pick<Host, "tryLock" | "unmount" | "removeTree">;

const lockName = "lock";
const downName = "down";
const gatePollMs = 5;

/** A directory locked by this process. */
export interface WorkloadDirectory {
  readonly path: string;
  /** False if it contains files left by an earlier player. */
  isEmpty(): Promise<boolean>;
  /** Whether another process wants it down. */
  isUnwanted(): Promise<boolean>;
  /** Removes it with its contents. */
  remove(): Promise<void>;
  /** Leaves its contents to a later `--down`. */
  release(): void;
}

export function workloadDirectory(root: string, { kind, namespace, name }: Name): string {
  return join(root, "play", namespace, kind, name);
}

/** Undefined if another process holds the lock. */
export async function lockWorkload(host: Files, root: string, name: Name): Promise<WorkloadDirectory | undefined> {
  const path = workloadDirectory(root, name);
  const descriptor = await throughGate(host, root, async () => {
    await mkdir(path, { recursive: true, mode: 0o700 });
    return await host.tryLock(join(path, lockName));
  });
  if (descriptor === null) return undefined;
  nameHolder(descriptor);
  return {
    path,
    isEmpty: async () => (await readdir(path)).every((entry) => entry === lockName || entry === downName),
    isUnwanted: async () => await isThere(join(path, downName)),
    async remove() {
      for (const entry of await readdir(path)) if (entry !== lockName) await removeFiles(host, join(path, entry));
      await throughGate(host, root, async () => {
        await host.removeTree(path);
        // Parent directories that are still in use are kept.
        for (let above = dirname(path); above !== root; above = dirname(above))
          await rmdir(above).catch(() => undefined);
      });
      closeSync(descriptor);
    },
    release: () => closeSync(descriptor),
  };
}

async function throughGate<Result>(host: Files, root: string, work: () => Promise<Result>): Promise<Result> {
  await mkdir(root, { recursive: true, mode: 0o711 });
  let gate = await host.tryLock(join(root, "play.lock"));
  while (gate === null) {
    await delay(gatePollMs);
    gate = await host.tryLock(join(root, "play.lock"));
  }
  try {
    return await work();
  } finally {
    closeSync(gate);
  }
}

export function heldElsewhere(root: string, workload: Name): Error {
  const pid = holderOf(join(workloadDirectory(root, workload), lockName)) ?? "unknown";
  return playErrors.playedAlready({ workload: titleOf(workload), pid });
}

/** Asks the player of the workload to stop; it checks every second. */
export async function askToEnd(host: Files, root: string, workload: Name): Promise<void> {
  const directory = workloadDirectory(root, workload);
  await throughGate(host, root, async () => {
    if (await isThere(directory)) await writeFile(join(directory, downName), "");
  });
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
