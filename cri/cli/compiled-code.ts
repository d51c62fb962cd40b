// The daemon's code as V8 has compiled it, kept in `<root>/code/<version>/` for the next start: a tenth of its time.
// Nothing needs it: where it cannot be kept, or is damaged, the code is compiled.

import { mkdirSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { enableCompileCache, flushCompileCache } from "node:module";
import { join } from "node:path";
import { type Log, messageOf } from "../../native/index.ts";

/** By then it serves, and what it mostly runs is compiled. Writing takes some 30 ms, once after an upgrade. */
const keptAfterMs = 20_000;

/** For code that is imported from now on. */
export function keepCompiledCode(root: string, version: string, log: Log): void {
  try {
    mkdirSync(root, { recursive: true, mode: 0o711 });
  } catch {
    // Whoever locks it says why.
    return;
  }
  const directory = join(root, "code");
  const { directory: used } = enableCompileCache(join(directory, version));
  // Somebody else's (NODE_COMPILE_CACHE) is theirs to keep.
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
