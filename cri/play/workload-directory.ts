// The directory of a workload that is played, <root>/play/<namespace>/<kind>/<name>: its pods' files, a lock that its
// player holds until it ends, however that ends, and the file `down`, by which another process asks it to end.
//
// Directories come and go under the gate, a lock on <root>/play.lock that nobody holds for long: what one process has
// made, another is not removing.

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
const gateLookMs = 5;

/** Held by this process. */
export interface WorkloadDirectory {
  readonly path: string;
  /** Whether there is more in it than the lock: what an earlier player left. */
  isEmpty(): Promise<boolean>;
  /** Whether another process wants it down. */
  isUnwanted(): Promise<boolean>;
  /** Removes it with all that is in it. */
  remove(): Promise<void>;
  /** Leaves what is in it to a later `--down`. */
  release(): void;
}

export function workloadDirectory(root: string, { kind, namespace, name }: Name): string {
  return join(root, "play", namespace, kind, name);
}

/** Undefined when another process has it. */
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
        // Whoever shares these directories keeps them.
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
    await delay(gateLookMs);
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

/** Its player looks each second. */
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
