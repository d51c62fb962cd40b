// crictl as a streaming client: complete runs with measured output, and runs that a test kills.

import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import type { Readable } from "node:stream";
import { until } from "../../fixtures/steps.ts";

export type Transport = "spdy" | "websocket";

export interface Outcome {
  readonly status: number | null;
  /** The first 64 KiB of stdout. */
  readonly stdout: Buffer;
  /** Of the complete stdout. */
  readonly size: number;
  readonly sha256: string;
  readonly stderr: string;
  readonly milliseconds: number;
}

export interface Crictl {
  /** Runs until it exits; at most two minutes. */
  run(words: readonly string[], input?: Iterable<Buffer>): Promise<Outcome>;
  /** Starts it; the test kills it with `killAndWait`. */
  start(words: readonly string[], stdin?: "ignore" | "pipe"): ChildProcess;
  /** The same on a terminal, using script(1). */
  startOnTerminal(words: readonly string[]): ChildProcess;
}

export function streamingCrictl(binary: string, socket: string): Crictl {
  const endpoint = ["--runtime-endpoint", `unix://${socket}`];
  return {
    run: (words, input = []) => run(binary, [...endpoint, ...words], input),
    startOnTerminal: (words) => {
      const command = [binary, ...endpoint, ...words].map((word) => `'${word}'`).join(" ");
      return spawn("script", ["-qfec", command, "/dev/null"], { stdio: ["pipe", "pipe", "pipe"] });
    },
    start: (words, stdin = "ignore") => spawn(binary, [...endpoint, ...words], { stdio: [stdin, "pipe", "pipe"] }),
  };
}

async function run(binary: string, words: readonly string[], input: Iterable<Buffer>): Promise<Outcome> {
  const began = performance.now();
  const child = spawn(binary, words, { stdio: ["pipe", "pipe", "pipe"], timeout: 120_000 });
  const stderr: Buffer[] = [];
  child.stderr.on("data", (bytes: Buffer) => stderr.push(bytes));
  child.stdin.on("error", () => undefined);
  const closed = once(child, "close");
  const measured = measure(child.stdout);
  for (const piece of input) {
    if (child.stdin.destroyed || child.exitCode !== null) break;
    if (!child.stdin.write(piece)) await Promise.race([once(child.stdin, "drain").catch(() => undefined), closed]);
  }
  child.stdin.end();
  await closed;
  return {
    status: child.exitCode,
    ...(await measured),
    stderr: Buffer.concat(stderr).toString(),
    milliseconds: performance.now() - began,
  };
}

export async function measure(output: Readable): Promise<Pick<Outcome, "stdout" | "size" | "sha256">> {
  const [first, hash] = [[] as Buffer[], createHash("sha256")];
  let size = 0;
  for await (const bytes of output) {
    if (size < 64 << 10) first.push(bytes);
    size += bytes.length;
    hash.update(bytes);
  }
  return { stdout: Buffer.concat(first).subarray(0, 64 << 10), size, sha256: hash.digest("hex") };
}

/** Waits until its stdout, read from now on, matches `wanted`; returns the match. */
export async function waitForOutput(child: ChildProcess, wanted: RegExp): Promise<RegExpExecArray> {
  let [text, stderr] = ["", ""];
  const collect = (bytes: Buffer) => {
    text = (text + bytes.toString()).slice(-4096);
  };
  const keepEnd = (bytes: Buffer) => {
    stderr = (stderr + bytes.toString()).slice(-4096);
  };
  child.stdout?.on("data", collect);
  child.stderr?.on("data", keepEnd);
  try {
    return await until(`crictl prints ${wanted}`, 10_000, async () => {
      if (child.exitCode !== null) throw new Error("it has exited");
      return wanted.exec(text) ?? undefined;
    });
  } catch (error) {
    throw new Error(`crictl (exit code ${child.exitCode}) printed ${text}; stderr: ${stderr}`, { cause: error });
  } finally {
    child.stdout?.off("data", collect).resume();
    child.stderr?.off("data", keepEnd).resume();
  }
}

/** Kills it and waits until it has exited. */
export async function killAndWait(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "exit");
  child.kill("SIGKILL");
  await closed;
}
