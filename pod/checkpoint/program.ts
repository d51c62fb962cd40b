// Runs a program to its end, whatever happens meanwhile: when this resolves or rejects, it and its children are gone.

import { spawn } from "node:child_process";

const keptOutput = 16 << 10;

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
  signal.addEventListener("abort", kill);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-keptOutput);
    });
  try {
    const exitCode = await new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      // What it leaves behind would hold the pipes open.
      child.once("exit", kill);
      child.once("close", (code) => resolve(code ?? 137));
    });
    signal.throwIfAborted();
    return { exitCode, output };
  } finally {
    signal.removeEventListener("abort", kill);
  }
}
