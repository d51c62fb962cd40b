// One daemon to a directory, root or state. The lock is the kernel's (flock(2)): it ends with the process, however that ends.

import { readFileSync, writeSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { firstLine, type Host } from "../../native/index.ts";
import { criErrors } from "../errors.ts";

/** A number of always the same length is written over the last one: nothing is cut off, no block is given back. */
const holderBytes = 16;

/**
 * Makes the directory (0711) when it is missing. Held until the process ends: whatever it still does before that is
 * done under the lock. Rejects with directoryLocked when another daemon has it.
 */
export async function lockDirectory(host: Pick<Host, "tryLock">, directory: string): Promise<void> {
  const path = join(directory, "keelson.lock");
  const descriptor = await mkdir(directory, { recursive: true, mode: 0o711 })
    .then(() => host.tryLock(path))
    .catch((error: unknown) => {
      throw criErrors.directoryUnusable({ directory, reason: firstLine(error) }, error);
    });
  if (descriptor === null) throw criErrors.directoryLocked({ directory, holder: holderOf(path) });
  nameHolder(descriptor);
}

/** For the message of a later one; the file itself means nothing, so a full disk is no obstacle. */
function nameHolder(descriptor: number): void {
  try {
    writeSync(descriptor, `${process.pid}\n`.padEnd(holderBytes), 0);
  } catch {
    // Then the message names nobody.
  }
}

function holderOf(path: string): string {
  try {
    const pid = readFileSync(path, "utf8").trim();
    return /^\d+$/.test(pid) ? ` (process ${pid})` : "";
  } catch {
    return "";
  }
}
