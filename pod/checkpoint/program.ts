// Runs a program to its end, whatever happens meanwhile: when this resolves or rejects, it and its children are gone
// (or, killed, hang in the kernel for longer than anybody should wait).

import { spawn } from "node:child_process";

const keptOutput = 16 << 10;
/** How long one that was asked to break off may take, and after that one that was killed; milliseconds. */
const breakOffMs = 5_000;
const dyingMs = 5_000;

export interface ProgramEnd {
  /** 128 + signal for a death by signal. */
  readonly exitCode: number;
  /** The last 16 KiB of stdout and stderr together. */
  readonly output: string;
}

export interface ProgramOptions {
  /** A descriptor that takes its stdout instead. */
  readonly stdout?: number;
  /** For a program that a kill would let do harm: makes it end by itself, soon. Never rejects. */
  readonly breakOff?: () => Promise<void>;
  /** Aborted, the program is killed whatever harm that does. */
  readonly kill?: AbortSignal;
}

/**
 * Aborted, its process group is killed, or broken off where there is a way.
 * Rejects with the abort's reason, or with the error of the start (ENOENT when there is no such program).
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  signal: AbortSignal,
  { stdout, breakOff, kill: killSignal }: ProgramOptions = {},
): Promise<ProgramEnd> {
  signal.throwIfAborted();
  const child = spawn(program, args, { stdio: ["ignore", stdout ?? "pipe", "pipe"], detached: true });
  const killGroup = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  };
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-keptOutput);
    });
  const over = new AbortController();
  const timers: NodeJS.Timeout[] = [];
  try {
    const exitCode = await new Promise<number>((resolve, reject) => {
      const kill = () => {
        killGroup();
        timers.push(setTimeout(() => reject(signal.reason), dyingMs));
      };
      const abort = () => {
        if (breakOff === undefined) return kill();
        timers.push(setTimeout(kill, breakOffMs));
        void breakOff();
      };
      signal.addEventListener("abort", abort, { signal: over.signal });
      killSignal?.addEventListener("abort", kill, { signal: over.signal });
      child.once("error", reject);
      // What it leaves behind would hold the pipes open.
      child.once("exit", killGroup);
      child.once("close", (code) => resolve(code ?? 137));
    });
    signal.throwIfAborted();
    return { exitCode, output };
  } finally {
    over.abort();
    for (const timer of timers) clearTimeout(timer);
  }
}
