// Who holds a lock file, for the message of whoever finds it taken. The lock is the kernel's (`Host.tryLock`), and means the
// same without this: nothing that goes wrong here is an error.

import { readFileSync, writeSync } from "node:fs";

/** A number of always the same length is written over the last one: nothing is cut off, no block is given back. */
const holderBytes = 16;

/** Writes this process's id into the lock file behind the descriptor. */
export function nameHolder(descriptor: number): void {
  try {
    writeSync(descriptor, `${process.pid}\n`.padEnd(holderBytes), 0);
  } catch {
    // On a full disk the message names nobody.
  }
}

/** The id of the process that took the lock last; undefined where the file says none. */
export function holderOf(path: string): string | undefined {
  try {
    return /^\d+/.exec(readFileSync(path, "utf8"))?.[0];
  } catch {
    return undefined;
  }
}
