// Runs a program until it exits. It is not trusted to exit, to limit its output, or to clean up its children.
//
// Limits: stdout (the caller's limit; a program that exceeds it is killed, since its output is useless then), stderr
// (the last `stderrLimit` bytes are kept), how long the children of a program that has exited may keep its pipes open
// (`pipesMs`), and how long a killed one may take to exit (`dyingMs`). The caller limits the run time, by a signal.

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
  /** Its whole stdin, or a pipe to it; /dev/null when absent. */
  readonly stdin?: { readonly input: string } | "pipe";
  /** A limit in bytes, or a descriptor to write to instead, which must stay open until the program exits. */
  readonly stdout: { readonly limit: number } | { readonly fd: number };
  /** Kills the processes that it leaves behind in its process group; otherwise they keep running. */
  readonly killsChildren?: boolean;
}

export interface ProgramEnd extends ChildExit {
  readonly stdout: string;
  readonly stderr: string;
  /** It was killed for writing more than `limit` bytes to stdout. */
  readonly tooLong: boolean;
}

export interface Program {
  /** Undefined without a pipe, and when it could not be started. */
  readonly stdin: Promise<Writable | undefined>;
  /**
   * Resolves when the program has exited and its output has been read, or the wait for it has timed out. Rejects with
   * the error of the start (ENOENT if there is no such program). May be left unhandled.
   */
  readonly end: Promise<ProgramEnd>;
  /** Sends SIGKILL to its process group, unless it has exited. */
  readonly kill: () => void;
}

/** Runs a program until it exits, or the signal aborts: then it is killed and the signal's reason is thrown. */
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

/** Waits for a started program as `runProgram` does. */
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

/** Starts a program whose stdin the caller may write to. */
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
      // After an event loop turn that took longer than that, timers run before pending data in the pipes is read.
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

/** Data beyond `limit` bytes is read, so that the writer does not block, and dropped. */
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
