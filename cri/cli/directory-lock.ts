// One daemon to a directory, root or state. The lock is the kernel's (flock(2)): it ends with the process, however that ends.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { firstLine, type Host } from "../../native/index.ts";
import { criErrors } from "../errors.ts";
import { holderOf, nameHolder } from "../lock-holder.ts";

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
  if (descriptor === null) {
    const pid = holderOf(path);
    throw criErrors.directoryLocked({ directory, holder: pid === undefined ? "" : ` (process ${pid})` });
  }
  nameHolder(descriptor);
}
