// Runs a program to its end. It is not trusted to end, to be brief, or to take its children with it.
//
// Bounds: stdout (the caller's limit; a program that says more is killed, since its answer is of no use any more),
// stderr (the last `stderrLimit` bytes are kept), how long an ended program's children may keep its pipes (`pipesMs`)
// and a killed one may take to go (`dyingMs`). How long it may run is the caller's to say, by a signal.

import { type ChildProcess, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";

export const stderrLimit = 16 << 10;
const pipesMs = 2_000;
const dyingMs = 5_000;

export interface ProgramOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly stdin?: "ignore" | "pipe";
  /** Bytes, or a descriptor that takes them instead. */
  readonly stdout: { readonly limit: number } | { readonly fd: number };
  /** Kills what it leaves behind in its process group; else that runs on. */
  readonly killsChildren?: boolean;
}

export interface ProgramEnd {
  /** Null for a death by signal. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** It was killed for saying more than `limit` bytes on stdout. */
  readonly tooLong: boolean;
}

export interface Program {
  /** Null without a pipe; also when it could not be started for want of descriptors. */
  readonly stdin: Writable | null;
  /**
   * Resolves when the program has ended and its output is read, or nobody should wait for that any longer. Rejects with
   * the error of the start (ENOENT when there is no such program). May be left unwatched.
   */
  readonly end: Promise<ProgramEnd>;
  /** SIGKILL to its process group, unless it has ended. */
  readonly kill: () => void;
}

/** Runs a program until it ends by itself or the signal aborts: then it is killed, and the signal's reason thrown. */
export async function runProgram(
  file: string,
  args: readonly string[],
  signal: AbortSignal,
  { input, ...options }: Omit<ProgramOptions, "stdin"> & { readonly input?: string },
): Promise<ProgramEnd> {
  signal.throwIfAborted();
  const { stdin, end, kill } = startProgram(file, args, { ...options, stdin: input === undefined ? "ignore" : "pipe" });
  // It may end without reading: its exit says more than EPIPE.
  stdin?.on("error", () => undefined);
  stdin?.end(input);
  signal.addEventListener("abort", kill, { once: true });
  try {
    const ended = await end;
    signal.throwIfAborted();
    return ended;
  } finally {
    signal.removeEventListener("abort", kill);
  }
}

/** Starts a program whose stdin the caller writes. */
export function startProgram(file: string, args: readonly string[], options: ProgramOptions): Program {
  try {
    const child = spawn(file, args, {
      ...(options.cwd !== undefined && { cwd: options.cwd }),
      ...(options.env !== undefined && { env: options.env }),
      stdio: [options.stdin ?? "ignore", "fd" in options.stdout ? options.stdout.fd : "pipe", "pipe"],
      // A process group of its own, so that killing it takes what it has started.
      detached: true,
    });
    return supervise(child, options);
  } catch (error) {
    // Node throws for some causes (EAGAIN, E2BIG) and emits "error" for others.
    const end = Promise.reject(error);
    end.catch(() => undefined);
    return { stdin: null, end, kill: () => undefined };
  }
}

function supervise(child: ChildProcess, { stdout, killsChildren = false }: ProgramOptions): Program {
  const { promise, resolve, reject } = Promise.withResolvers<Pick<ProgramEnd, "code" | "signal">>();
  const timers: NodeJS.Timeout[] = [];
  let tooLong = false;

  const over = (code: number | null, signal: NodeJS.Signals | null): void => {
    for (const timer of timers) clearTimeout(timer);
    // Without a process there are no streams at all (EMFILE), whatever Node's types say.
    for (const stream of child.stdio ?? []) stream?.destroy();
    resolve({ code, signal });
  };
  const kill = (): void => {
    // Not one that was reaped: its id may be another's by now.
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    killGroup(child.pid);
    timers.push(setTimeout(over, dyingMs, null, "SIGKILL"));
  };
  const answer = keepStart(child.stdout, "limit" in stdout ? stdout.limit : 0, () => {
    tooLong = true;
    kill();
  });
  const errors = keepEnd(child.stderr, stderrLimit);

  child.on("error", reject);
  child.once("exit", (code, signal) => {
    if (killsChildren && child.pid !== undefined) killGroup(child.pid);
    timers.push(setTimeout(over, pipesMs, code, signal));
  });
  child.once("close", over);
  const end = promise.then((exit) => ({ ...exit, stdout: answer(), stderr: errors(), tooLong }));
  end.catch(() => undefined);
  return { stdin: child.stdin ?? null, end, kill };
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch {
    // Gone between the look and the kill.
  }
}

/** What follows `limit` bytes is read, so that the writer is not stalled, and dropped. */
function keepStart(stream: Readable | null, limit: number, onMore: () => void): () => string {
  const chunks: Buffer[] = [];
  let length = 0;
  stream?.on("error", () => undefined);
  stream?.on("data", (chunk: Buffer) => {
    const part = chunk.subarray(0, limit - length);
    length += part.length;
    if (part.length > 0) chunks.push(part);
    if (part.length < chunk.length) onMore();
  });
  return () => Buffer.concat(chunks).toString();
}

function keepEnd(stream: Readable | null, limit: number): () => string {
  let kept = Buffer.alloc(0);
  stream?.on("error", () => undefined);
  stream?.on("data", (chunk: Buffer) => {
    kept = Buffer.concat([kept, chunk]).subarray(-limit);
  });
  return () => kept.toString();
}
