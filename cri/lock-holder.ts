// Records who holds a lock file, for the message of a process that finds it taken. The lock itself is held by the
// kernel (`Host.tryLock`) and works without this, so failures here are ignored.

import { readFileSync, writeSync } from "node:fs";

/** Fixed length, so that each write overwrites the last one: the file is not truncated, and no block is freed. */
const holderBytes = 16;

/** Writes this process's id into the lock file behind the descriptor. */
export function nameHolder(descriptor: number): void {
  try {
    writeSync(descriptor, `${process.pid}\n`.padEnd(holderBytes), 0);
  } catch {
    // On a full disk the message names no process.
  }
}

/** The id of the process that took the lock last; undefined if the file does not contain one. */
export function holderOf(path: string): string | undefined {
  try {
    return /^\d+/.exec(readFileSync(path, "utf8"))?.[0];
  } catch {
    return undefined;
  }
}
