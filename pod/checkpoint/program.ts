// Runs a program to its end, whatever happens meanwhile: when this resolves or rejects, it and its children are gone
// (or, killed, hang in the kernel for longer than anybody should wait).

import { spawn } from "node:child_process";

const keptOutput = 16 << 10;
/** How long one that was killed may take to go, milliseconds. */
const dyingMs = 5_000;

export interface ProgramEnd {
  /** 128 + signal for a death by signal. */
  readonly exitCode: number;
  /** The last 16 KiB of stdout and stderr together. */
  readonly output: string;
}

/**
 * `stdout`: a descriptor that takes its output instead. Aborted, its process group is killed.
 * Rejects with the abort's reason, or with the error of the start (ENOENT when there is no such program).
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  signal: AbortSignal,
  stdout: "pipe" | number = "pipe",
): Promise<ProgramEnd> {
  signal.throwIfAborted();
  const child = spawn(program, args, { stdio: ["ignore", stdout, "pipe"], detached: true });
  const kill = () => {
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
  let abort: () => void = () => undefined;
  let dying: NodeJS.Timeout | undefined;
  try {
    const exitCode = await new Promise<number>((resolve, reject) => {
      abort = () => {
        kill();
        dying = setTimeout(() => reject(signal.reason), dyingMs);
      };
      signal.addEventListener("abort", abort);
      child.once("error", reject);
      // What it leaves behind would hold the pipes open.
      child.once("exit", kill);
      child.once("close", (code) => resolve(code ?? 137));
    });
    signal.throwIfAborted();
    return { exitCode, output };
  } finally {
    signal.removeEventListener("abort", abort);
    clearTimeout(dying);
  }
}
