// What the rest of Keelson sees of a pod's monitor; PROTOCOL.md tells what stands behind it.

import type { Duplex, Readable, Writable } from "node:stream";

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
  /** The container whose PID namespace it joins; config.json names it by `<bundle>/pid-namespace`. */
  readonly pidOf?: string;
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
  /** 128 + signal for a death by signal. */
  readonly exitCode: number;
  /** 0 when it was no signal; always 0 of an attach. */
  readonly signal: number;
}

export interface ExecSyncRequest {
  readonly id: string;
  readonly args: readonly string[];
  /** Milliseconds, 0 for no limit. */
  readonly timeoutMs: number;
  /** What limits its output beyond the limit of each; absent: nothing. */
  readonly room?: OutputRoom;
}

/** A share of what many outputs together may take. */
export interface OutputRoom {
  /** Room for so many bytes in all: at once, or a promise when it is waited for, which rejects when there is none. */
  hold(bytes: number): Promise<void> | undefined;
}

export interface ExecSyncResult {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly exitCode: number;
}

/**
 * A running exec or attach. Back-pressure reaches the process: a reader that does not read stops both
 * outputs of this session (they share a connection) and no other. Destroying a stream drops its bytes.
 */
export interface Session {
  /** Ending it closes the process's stdin and nothing else. Destroyed when the session ends. */
  readonly stdin: Writable;
  /** Ends with the session, whatever `done` says; never emits an error. So does `stderr`. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Sets the terminal's size, 0 to 65535 each; without a terminal it does nothing. */
  resize(columns: number, rows: number): void;
  /** Resolves when the process has ended and all output has been handed to the streams; rejects as calls do. */
  readonly done: Promise<ExecOutcome>;
  /** Ends the session: an exec's process is killed, an attach detaches; `done` rejects with Cancelled. */
  cancel(): void;
}

export type MonitorEvent =
  | { readonly type: "state"; readonly containers: readonly ContainerRun[] }
  | { readonly type: "exited"; readonly container: ExitedRun }
  | { readonly type: "oom"; readonly id: string }
  /** The init of the pod's shared PID namespace died, and all in that namespace with it. */
  | { readonly type: "initLost" };

export interface Deadline {
  /** Milliseconds from now after which the call rejects with DeadlineExceeded; up to the start for a session. */
  readonly timeoutMs: number;
  /** Aborted: the call, or the session that came of it, rejects with Cancelled. */
  readonly signal?: AbortSignal;
}

/**
 * One pod's monitor. Every call opens a connection, is bounded by its deadline, and rejects with a
 * KeelsonError of monitor-errors.ts: `monitorUnreachable` (Unavailable) when nobody listens, a
 * MonitorError for the monitor's own ERROR.
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
  /**
   * Runs a command to its end. Keeps the head of its output, stdout and stderr together below the 16 MiB
   * that CRI clients take in a message (each at least half of that), and reads on past it. The deadline
   * bounds the start; past `request.timeoutMs` it rejects with DeadlineExceeded.
   */
  execSync(request: ExecSyncRequest, deadline: Deadline): Promise<ExecSyncResult>;
  attach(id: string, stdin: boolean, deadline: Deadline): Promise<Session>;
  resize(id: string, columns: number, rows: number, deadline: Deadline): Promise<void>;
  reopenLog(id: string, deadline: Deadline): Promise<void>;
  /** Of the pod's own network namespace, by dotted name. */
  setNetworkSysctls(sysctls: Readonly<Record<string, string>>, deadline: Deadline): Promise<void>;
  update(id: string, resources: object, deadline: Deadline): Promise<void>;
  /** A connection to localhost:port in the pod; ending it half-closes, destroying it closes. */
  portForward(port: number, deadline: Deadline): Promise<Duplex>;
  /**
   * Events until `signal` aborts or the monitor hangs up (it does to a watcher that is too slow); the first
   * is always a `state`. Rejects as calls do when the watch cannot begin.
   */
  watch(signal: AbortSignal): AsyncIterable<MonitorEvent>;
  shutdown(graceMs: number, deadline: Deadline): Promise<void>;
}
