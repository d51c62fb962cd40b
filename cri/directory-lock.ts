// One daemon to a directory, root or state. The lock is the kernel's (flock(2)): it ends with the process, however that ends.

import { closeSync, ftruncateSync, readFileSync, writeSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Host } from "../native/index.ts";
import { criErrors } from "./errors.ts";
import { firstLine } from "./status.ts";

export interface DirectoryLock {
  release(): void;
}

/** Makes the directory (0711) when it is missing. Rejects with directoryLocked when another daemon has it. */
export async function lockDirectory(host: Pick<Host, "tryLock">, directory: string): Promise<DirectoryLock> {
  const path = join(directory, "keelson.lock");
  const descriptor = await mkdir(directory, { recursive: true, mode: 0o711 })
    .then(() => host.tryLock(path))
    .catch((error: unknown) => {
      throw criErrors.directoryUnusable({ directory, reason: firstLine(error) }, error);
    });
  if (descriptor === null) throw criErrors.directoryLocked({ directory, holder: holderOf(path) });
  // For the message above; the file itself means nothing.
  ftruncateSync(descriptor);
  writeSync(descriptor, `${process.pid}\n`, 0);
  return { release: () => closeSync(descriptor) };
}

function holderOf(path: string): string {
  try {
    const pid = readFileSync(path, "utf8").trim();
    return /^\d+$/.test(pid) ? ` (process ${pid})` : "";
  } catch {
    return "";
  }
}
