// One daemon per directory, root or state. The lock is a flock(2): the kernel releases it however the process exits.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { firstLine, type Host } from "../../native/index.ts";
import { criErrors } from "../errors.ts";
import { holderOf, nameHolder } from "../lock-holder.ts";

/**
 * Creates the directory (0711) if it is missing. The lock is held until the process exits, so all of its remaining work
 * is done under it. Rejects with directoryLocked if another daemon holds it.
 */
export async function lockDirectory(host: Pick<Host, "tryLock">, directory: string): Promise<void> {
  const path = join(directory, "keelson.lock");
  const descriptor = await mkdir(directory, { recursive: true, mode: 0o711 })
    .then(() => host.tryLock(path))
    .catch((error: unknown) => {
      throw criErrors.directoryUnusable({ directory, reason: firstLine(error) }, error);
    });
  if (descriptor === null) {
    const pid = holderOf(path);
    throw criErrors.directoryLocked({ directory, holder: pid === undefined ? "" : ` (process ${pid})` });
  }
  nameHolder(descriptor);
}
