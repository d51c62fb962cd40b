// One daemon to a root directory. The lock is the kernel's (flock(2)): it ends with the process, however that ends.

import { closeSync, ftruncateSync, readFileSync, writeSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Host } from "../native/index.ts";
import { criErrors } from "./errors.ts";
import { firstLine } from "./status.ts";

export interface RootLock {
  release(): void;
}

/** Makes the root directory (0711) when it is missing. Rejects with rootLocked when another daemon has it. */
export async function lockRoot(host: Pick<Host, "tryLock">, root: string): Promise<RootLock> {
  const path = join(root, "keelson.lock");
  const descriptor = await mkdir(root, { recursive: true, mode: 0o711 })
    .then(() => host.tryLock(path))
    .catch((error: unknown) => {
      throw criErrors.rootUnusable({ root, reason: firstLine(error) }, error);
    });
  if (descriptor === null) throw criErrors.rootLocked({ root, holder: holderOf(path) });
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
