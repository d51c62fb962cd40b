// Child processes by the addon, which copies nothing of this process to start one: their pipes, and how they end.
//
// A process reaps its own children and nobody else's, so those that live are kept in one place for the whole process.

import { constants } from "node:os";
import { longestTimerMs } from "../async/time-limit.ts";
import { ownHost, type ProgramDescriptor, type ReapedProgram } from "../client/host.ts";
import { asNodeError } from "../client/host-errors.ts";

export interface ChildStart {
  /** Without a slash it is looked for in this process's PATH. */
  readonly file: string;
  readonly args: readonly string[];
  /** What it is told that it is called; `file` when absent. */
  readonly argv0?: string;
  /** This process's own when absent. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  readonly cwd?: string | undefined;
  readonly descriptors: readonly ProgramDescriptor[];
  /** For the descriptor "input". */
  readonly input?: string | undefined;
}

export interface ChildExit {
  /** Null for a death by signal, and when nobody can tell. */
  readonly code: number | null;
  readonly signal: string | null;
}

export interface Child {
  readonly pid: number;
  /** Our ends of its pipes, by descriptor; -1 where there is none. The caller's to close. */
  readonly pipes: readonly number[];
  /** Never rejects. */
  readonly exit: Promise<ChildExit>;
  /** SIGKILL to its process group; nothing once it has been reaped, for its id may be another's by then. */
  kill(): void;
  /** SIGKILL to what it left in its process group. For its exit's own turn, later the id may be another's. */
  killGroup(): void;
  /** This process may end before it. */
  unref(): void;
}

interface Living {
  readonly ended: (exit: ChildExit) => void;
  /** Holds the event loop. */
  readonly timer: NodeJS.Timeout;
}

const living = new Map<number, Living>();

/** A child of this process that somebody else has started for it, in a process group of its own. */
export function adoptChild(pid: number): Child {
  return watched(pid, []);
}

/** In a session and a process group of its own. Rejects as child_process does: `code` is ENOENT, EMFILE, E2BIG … */
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
    living.set(pid, { ended, timer: setTimeout(() => undefined, longestTimerMs) });
  });
  // It may have ended before anybody watched it.
  reap();
  return {
    pid,
    pipes,
    exit,
    kill: () => {
      if (living.has(pid)) kill(pid);
    },
    killGroup: () => kill(pid),
    unref: () => living.get(pid)?.timer.unref(),
  };
}

/** One by one as they end: to ask after each that lives would take longer the more pods there are. */
function reap(): void {
  const host = ownHost();
  for (let pid = host.endedChild(); pid !== 0; pid = host.endedChild()) {
    if (!living.has(pid)) {
      // Somebody else's, who has not reaped it yet; it may stand before one of ours.
      settle(host.reapPrograms([...living.keys()]));
      return;
    }
    settle(host.reapPrograms([pid]));
  }
}

function settle(reaped: readonly ReapedProgram[]): void {
  for (const { pid, code, signal } of reaped) {
    const child = living.get(pid);
    living.delete(pid);
    clearTimeout(child?.timer);
    child?.ended({ code: code < 0 ? null : code, signal: signalName(signal) });
  }
}

function kill(group: number): void {
  try {
    process.kill(-group, "SIGKILL");
  } catch {
    // Gone between the look and the kill.
  }
}

function signalName(number: number): string | null {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? null;
}
