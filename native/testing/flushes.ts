// Records what a program flushes to disk: nothing else shows whether a write would survive a power failure.

import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = join(import.meta.dirname, "../..");

/** Runs an ES module at the root of this repository. Returns the paths passed to fsync and fdatasync, in order. */
export async function flushesOf(script: string): Promise<string[]> {
  const directory = await mkdtemp(join(tmpdir(), "keelson-flushes-"));
  try {
    const log = join(directory, "log");
    const env = { ...process.env, LD_PRELOAD: join(root, "native/build/testing/flush-log.so"), FLUSH_LOG: log };
    await run(process.execPath, ["--input-type=module", "--eval", script], { cwd: root, env });
    return (await readFile(log, "utf8").catch(() => "")).split("\n").slice(0, -1);
  } finally {
    await rm(directory, { recursive: true });
  }
}
