// Runs a program to its end. It is not trusted to end, to be brief, or to take its children with it.
//
// Bounds: stdout (the caller's limit; a program that says more is killed, since its answer is of no use any more),
// stderr (the last `stderrLimit` bytes are kept), how long an ended program's children may keep its pipes (`pipesMs`)
// and a killed one may take to go (`dyingMs`). How long it may run is the caller's to say, by a signal.

import { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { isDoneWithin } from "../async/time-limit.ts";
import type { ProgramDescriptor } from "../client/host.ts";
import { type Child, type ChildExit, startChild } from "./child.ts";

export const stderrLimit = 16 << 10;
const pipesMs = 2_000;
const dyingMs = 5_000;

export interface ProgramOptions {
  /** This process's own when absent. */
  readonly cwd?: string;
  /** This process's own when absent. */
  readonly env?: NodeJS.ProcessEnv;
  /** All that it reads on stdin, or a pipe to it; nothing when absent. */
  readonly stdin?: { readonly input: string } | "pipe";
  /** Bytes, or a descriptor that takes them instead and stays open until the end. */
  readonly stdout: { readonly limit: number } | { readonly fd: number };
  /** Kills what it leaves behind in its process group; else that runs on. */
  readonly killsChildren?: boolean;
}

export interface ProgramEnd extends ChildExit {
  readonly stdout: string;
  readonly stderr: string;
  /** It was killed for saying more than `limit` bytes on stdout. */
  readonly tooLong: boolean;
}

export interface Program {
  /** Undefined without a pipe, and when it could not be started. */
  readonly stdin: Promise<Writable | undefined>;
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
  return await endOf(
    startProgram(file, args, input === undefined ? options : { ...options, stdin: { input } }),
    signal,
  );
}

/** Waits as `runProgram` does. */
export async function endOf({ end, kill }: Program, signal: AbortSignal): Promise<ProgramEnd> {
  if (signal.aborted) kill();
  signal.addEventListener("abort", kill, { once: true });
  try {
    const ended = await end;
    signal.throwIfAborted();
    return ended;
  } finally {
    signal.removeEventListener("abort", kill);
  }
}

/** Starts a program whose stdin the caller may write. */
export function startProgram(file: string, args: readonly string[], options: ProgramOptions): Program {
  const { cwd, env, stdin, stdout } = options;
  const descriptors: ProgramDescriptor[] = [
    stdin === undefined ? "null" : stdin === "pipe" ? "reads" : "input",
    "fd" in stdout ? `${stdout.fd}` : "writes",
    "writes",
  ];
  const input = typeof stdin === "object" ? stdin.input : "";
  return supervise(startChild({ file, args, cwd, env, descriptors, input }), options);
}

function supervise(starting: Promise<Child>, { stdout, killsChildren = false }: ProgramOptions): Program {
  const lost = Promise.withResolvers<ChildExit>();
  let child: Child | undefined;
  let dying: NodeJS.Timeout | undefined;
  let killed = false;
  let tooLong = false;

  const killStarted = (started: Child): void => {
    started.kill();
    dying = setTimeout(lost.resolve, dyingMs, { code: null, signal: "SIGKILL" });
  };
  const kill = (): void => {
    if (!killed && child !== undefined) killStarted(child);
    killed = true;
  };
  const pipes = starting.then((started) => {
    child = started;
    if (killed) killStarted(started);
    return started.pipes.map((fd, number) => pipeEnd(fd, number === 0));
  });
  const exitOf = async (started: Child): Promise<ChildExit> => {
    const exit = await started.exit;
    if (killsChildren) started.killGroup();
    return exit;
  };
  const run = async (): Promise<ProgramEnd> => {
    const [stdin, output, errors] = await pipes;
    const answer = keepStart(output, "limit" in stdout ? stdout.limit : 0, () => {
      tooLong = true;
      kill();
    });
    const said = keepEnd(errors, stderrLimit);
    try {
      const exit = await Promise.race([exitOf(await starting), lost.promise]);
      const isRead = await isDoneWithin(Promise.all([closing(output), closing(errors)]), pipesMs);
      // After a turn of the event loop that took longer, timers go before what waits in the pipes.
      if (!isRead) await turn();
      return { ...exit, stdout: answer(), stderr: said(), tooLong };
    } finally {
      clearTimeout(dying);
      for (const pipe of [stdin, output, errors]) pipe?.destroy();
    }
  };
  const ended = run();
  ended.catch(() => undefined);
  const stdin = pipes.then(
    ([pipe]) => pipe,
    () => undefined,
  );
  return { stdin, end: ended, kill };
}

function pipeEnd(fd: number, weWrite: boolean): Socket | undefined {
  return fd < 0 ? undefined : new Socket({ fd, readable: !weWrite, writable: weWrite });
}

async function closing(pipe: Socket | undefined): Promise<void> {
  if (pipe === undefined || pipe.closed) return;
  await new Promise((closed) => pipe.once("close", closed));
}

/** What follows `limit` bytes is read, so that the writer is not stalled, and dropped. */
function keepStart(stream: Readable | undefined, limit: number, onMore: () => void): () => string {
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

function keepEnd(stream: Readable | undefined, limit: number): () => string {
  let kept = Buffer.alloc(0);
  stream?.on("error", () => undefined);
  stream?.on("data", (chunk: Buffer) => {
    kept = Buffer.concat([kept, chunk]).subarray(-limit);
  });
  return () => kept.toString();
}
