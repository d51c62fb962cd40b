// Child processes, started by the addon without copying this process: their pipes and their exit.
//
// Only children registered here are reaped, so they are kept in one table for the whole process.

import { constants } from "node:os";
import { longestTimerMs } from "../async/time-limit.ts";
import { ownHost, type ProgramDescriptor, type ReapedProgram } from "../client/host.ts";
import { asNodeError } from "../client/host-errors.ts";

export interface ChildStart {
  /** Without a slash it is searched for in this process's PATH. */
  readonly file: string;
  readonly args: readonly string[];
  /** The program's argv[0]; `file` when absent. */
  readonly argv0?: string;
  /** This process's own when absent. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly cwd?: string | undefined;
  readonly descriptors: readonly ProgramDescriptor[];
  /** For the descriptor "input". */
  readonly input?: string | undefined;
}

export interface ChildExit {
  /** Null if it was killed by a signal, or if its exit status is unknown. */
  readonly code: number | null;
  readonly signal: string | null;
}

export interface Child {
  readonly pid: number;
  /** Our ends of its pipes, by descriptor; -1 where there is none. The caller must close them. */
  readonly pipes: readonly number[];
  /** Never rejects. */
  readonly exit: Promise<ChildExit>;
  /** Sends SIGKILL to its process group; a no-op once it has been reaped, since its id may be reused by then. */
  kill(): void;
  /** Sends SIGKILL to the rest of its process group. Only in the turn in which it exits: later the id may be reused. */
  killGroup(): void;
  /** Lets this process exit before the child does. */
  unref(): void;
}

interface Running {
  readonly ended: (exit: ChildExit) => void;
  /** Keeps the event loop alive. */
  readonly timer: NodeJS.Timeout;
}

const running = new Map<number, Running>();

/** Takes charge of a child of this process that another process started for it, in its own process group. */
export function adoptChild(pid: number): Child {
  return watched(pid, []);
}

/** Starts it in its own session and process group. Rejects like child_process: `code` is ENOENT, EMFILE, E2BIG … */
export async function startChild(start: ChildStart): Promise<Child> {
  if (process.listenerCount("SIGCHLD", reap) === 0) process.on("SIGCHLD", reap);
  const { file, args, argv0 = file, env = process.env, cwd = ".", descriptors, input = "" } = start;
  const environment = Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : `${name}=${value}`));
  try {
    const { pid, pipes } = await ownHost().startProgram(file, [argv0, ...args], environment, cwd, descriptors, input);
    return watched(pid, pipes);
  } catch (error) {
    throw asNodeError(error, "spawn", file);
  }
}

function watched(pid: number, pipes: readonly number[]): Child {
  const exit = new Promise<ChildExit>((ended) => {
    running.set(pid, { ended, timer: setTimeout(() => undefined, longestTimerMs) });
  });
  // It may have exited before it was in the table.
  reap();
  return {
    pid,
    pipes,
    exit,
    kill: () => {
      if (running.has(pid)) kill(pid);
    },
    killGroup: () => kill(pid),
    unref: () => running.get(pid)?.timer.unref(),
  };
}

/** Reaps children one by one as they exit: checking every running child would take longer the more pods there are. */
function reap(): void {
  const host = ownHost();
  for (let pid = host.endedChild(); pid !== 0; pid = host.endedChild()) {
    if (!running.has(pid)) {
      // A child started elsewhere and not reaped yet; it may hide one of ours behind it.
      settle(host.reapPrograms([...running.keys()]));
      return;
    }
    settle(host.reapPrograms([pid]));
  }
}

function settle(reaped: readonly ReapedProgram[]): void {
  for (const { pid, code, signal } of reaped) {
    const child = running.get(pid);
    running.delete(pid);
    clearTimeout(child?.timer);
    child?.ended({ code: code < 0 ? null : code, signal: signalName(signal) });
  }
}

function kill(group: number): void {
  try {
    process.kill(-group, "SIGKILL");
  } catch {
    // It no longer exists.
  }
}

function signalName(number: number): string | null {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? null;
}
