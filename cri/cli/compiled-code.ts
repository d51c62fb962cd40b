// V8's compile cache of the daemon's code, kept in `<root>/code/<version>/`: it saves a tenth of the next start's time.
// It is optional: if it cannot be kept, or is damaged, the code is compiled again.

import { mkdirSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { enableCompileCache, flushCompileCache } from "node:module";
import { join } from "node:path";
import { type Log, messageOf } from "../../native/index.ts";

/** By then the daemon serves, and most code it runs is compiled. Writing takes some 30 ms, once after an upgrade. */
const keptAfterMs = 20_000;

/** Enables the cache for code that is imported from now on. */
export function keepCompiledCode(root: string, version: string, log: Log): void {
  try {
    mkdirSync(root, { recursive: true, mode: 0o711 });
  } catch {
    // Locking the directory reports the reason.
    return;
  }
  const directory = join(root, "code");
  const { directory: used } = enableCompileCache(join(directory, version));
  // A cache set by NODE_COMPILE_CACHE is not managed here.
  if (used === undefined || !used.startsWith(directory)) return;
  const keep = async () => {
    flushCompileCache();
    for (const name of await readdir(directory))
      if (name !== version) await rm(join(directory, name), { recursive: true });
  };
  setTimeout(() => {
    keep().catch((error: unknown) => log("warn", "compiled code not kept", { directory, error: messageOf(error) }));
  }, keptAfterMs).unref();
}
