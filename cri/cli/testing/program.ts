// Runs the program in tests, with separate directories for each test; its daemons are killed after the test.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach } from "vitest";

export const program = join(import.meta.dirname, "../../keelson");

export interface Daemon {
  readonly child: ChildProcess;
  /** Its log lines so far. */
  readonly lines: string[];
}

export function useProgram() {
  let directory: string;
  let daemons: ChildProcess[];
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "keelson-program-"));
    daemons = [];
  });
  afterEach(async () => {
    for (const daemon of daemons) {
      if (daemon.exitCode !== null || daemon.signalCode !== null) continue;
      daemon.kill("SIGKILL");
      await once(daemon, "exit");
    }
    await rm(directory, { recursive: true, force: true });
  });
  return {
    directory: () => directory,
    /** The socket of such a daemon. */
    daemonSocket: () => join(directory, "run/keelson.sock"),
    /** A daemon with root, state and configuration in the directory. */
    daemon: (...more: readonly string[]): Daemon => {
      const places = ["--root", join(directory, "root"), "--state", join(directory, "run")];
      const child = spawn(program, ["serve", ...places, "--cni-conf-dir", join(directory, "cni"), ...more]);
      daemons.push(child);
      const lines: string[] = [];
      child.stderr.on("data", (chunk: Buffer) => lines.push(...chunk.toString().trimEnd().split("\n")));
      return { child, lines };
    },
  };
}

export async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return await promisify(execFile)(program, args).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
}

export async function serving({ child, lines }: Daemon): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!lines.some((line) => line.includes('"message":"serving"'))) {
    if (child.exitCode !== null || Date.now() > deadline)
      throw new Error(`the daemon is not serving: ${lines.join("\n")}`);
    await sleep(10);
  }
}
