// The client of a pod's monitor: PROTOCOL.md from the daemon's side.

import type { Duplex, Readable } from "node:stream";

export type ContainerRun =
  | {
      readonly state: "running";
      readonly id: string;
      readonly pid: number;
      readonly startedAt: bigint;
      readonly tty: boolean;
    }
  | {
      readonly state: "exited";
      readonly id: string;
      readonly pid: number;
      readonly startedAt: bigint;
      readonly finishedAt: bigint;
      readonly exitCode: number;
      readonly signal: number;
      readonly oomKilled: boolean;
      readonly tty: boolean;
    };
export type ExitedRun = Extract<ContainerRun, { state: "exited" }>;

export interface OciHandler {
  readonly binary: string;
  readonly root: string;
}

export interface StartRequest {
  readonly id: string;
  readonly bundle: string;
  readonly logPath?: string;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
  readonly seccompFilter?: string;
  readonly handler?: OciHandler;
}

export interface ExecRequest {
  readonly id: string;
  readonly args: readonly string[];
  readonly tty: boolean;
  readonly stdin: boolean;
  /** Milliseconds, 0 for no limit. */
  readonly timeoutMs: number;
  readonly columns?: number;
  readonly rows?: number;
}

export interface ExecOutcome {
  readonly exitCode: number;
  readonly signal: number;
}

/** A running exec or attach. Streams carry back-pressure to the process. */
export interface Session {
  readonly stdin: NodeJS.WritableStream;
  readonly stdout: Readable;
  readonly stderr: Readable;
  resize(columns: number, rows: number): void;
  readonly done: Promise<ExecOutcome>;
  /** Ends the session: an exec's process is killed, an attach detaches. */
  cancel(): void;
}

export type MonitorEvent =
  | { readonly type: "state"; readonly containers: readonly ContainerRun[] }
  | { readonly type: "exited"; readonly container: ExitedRun }
  | { readonly type: "oom"; readonly id: string };

export interface Deadline {
  /** Milliseconds from now after which the call rejects with DeadlineExceeded. */
  readonly timeoutMs: number;
}

/**
 * One pod's monitor. Every call opens a connection, is bounded by its deadline, and rejects with a
 * KeelsonError: `monitorUnreachable` (Unavailable) when nobody listens, else one made from the
 * monitor's own ERROR (`kind`, `step`, `object`, `errno` stay readable on MonitorError).
 */
export interface Monitor {
  hello(deadline: Deadline): Promise<{ readonly pid: number; readonly initPid?: number; readonly version: string }>;
  state(deadline: Deadline): Promise<readonly ContainerRun[]>;
  start(request: StartRequest, deadline: Deadline): Promise<ContainerRun>;
  /** Waits for the exit; give a deadline above `timeoutMs`. */
  stop(id: string, signal: number, timeoutMs: number, deadline: Deadline): Promise<ExitedRun>;
  kill(id: string, signal: number, deadline: Deadline): Promise<void>;
  delete(id: string, deadline: Deadline): Promise<void>;
  exec(request: ExecRequest, deadline: Deadline): Promise<Session>;
  attach(id: string, stdin: boolean, deadline: Deadline): Promise<Session>;
  resize(id: string, columns: number, rows: number, deadline: Deadline): Promise<void>;
  reopenLog(id: string, deadline: Deadline): Promise<void>;
  update(id: string, resources: object, deadline: Deadline): Promise<void>;
  portForward(port: number, deadline: Deadline): Promise<Duplex>;
  /** Events until `signal` aborts or the monitor is gone; the first is always a `state`. */
  watch(signal: AbortSignal): AsyncIterable<MonitorEvent>;
  shutdown(graceMs: number, deadline: Deadline): Promise<void>;
}
