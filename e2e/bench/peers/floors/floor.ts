// Runs the program that measures floors (floor.c), and parses its output.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { promisify } from "node:util";

/** Milliseconds. */
export interface Cost {
  readonly wall: number;
  readonly cpu: number;
}

const execute = promisify(execFile);
const deadlineMs = 60_000;

/** Compiles it into the directory and returns its path. */
export async function buildFloor(directory: string): Promise<string> {
  const program = join(directory, "floor");
  const source = join(import.meta.dirname, "floor.c");
  await execute("gcc", ["-std=c11", "-O2", "-static", "-o", program, source], { timeout: deadlineMs });
  return program;
}

/** Creates a root file system that contains only busybox. */
export async function makeRoot(directory: string): Promise<string> {
  const root = join(directory, "root");
  for (const name of ["bin", "proc", "dev", "sys"]) await mkdir(join(root, name), { recursive: true });
  await execute("cp", ["/bin/busybox", join(root, "bin/busybox")]);
  for (const name of ["true", "sleep"]) await execute("ln", ["-s", "busybox", join(root, "bin", name)]);
  return root;
}

/** The costs that a measuring command of `floor` prints. */
export async function measured(floor: string, words: readonly string[], input = ""): Promise<Cost[]> {
  const running = execute(floor, words, { timeout: deadlineMs });
  // If it exits before it has read everything, its exit status and message give the reason.
  running.child.stdin?.on("error", () => undefined).end(input);
  const { stdout } = await running;
  return stdout.trim().split("\n").map(parseCost);
}

/** Runs a program once; returns its cost and its output. */
export async function runMeasured(
  floor: string,
  command: readonly string[],
  options: { readonly input?: string; readonly environment?: Readonly<Record<string, string>> } = {},
): Promise<Cost & { readonly output: string }> {
  // crun passes its output on to the container, so the pipe would never close: output is read only of programs with
  // input.
  const heard = options.input === undefined ? "ignore" : "pipe";
  const child = spawn(floor, ["run", ...command], {
    stdio: [heard, heard, "inherit", "pipe"],
    env: { ...process.env, ...options.environment },
    timeout: deadlineMs,
    killSignal: "SIGKILL",
  });
  child.stdin?.end(options.input);
  const [output, cost, [code]] = await Promise.all([text(child.stdout), text(child.stdio[3]), once(child, "exit")]);
  if (code !== 0) throw new Error(`${command.join(" ")} exited with ${code}: ${output}`);
  return { ...parseCost(cost), output };
}

function parseCost(line: string): Cost {
  const [wall = Number.NaN, cpu = Number.NaN] = line.split(" ").map((nanoseconds) => Number(nanoseconds) / 1e6);
  return { wall, cpu };
}

async function text(stream: unknown): Promise<string> {
  if (!isReadable(stream)) return "";
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

function isReadable(stream: unknown): stream is Readable {
  return stream !== null && typeof stream === "object" && "read" in stream;
}
