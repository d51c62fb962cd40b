// The interface of a pod's monitor for the rest of Keelson; PROTOCOL.md describes the protocol behind it.

import type { Duplex, Readable, Writable } from "node:stream";

/** One run of a container's init process. */
interface Run {
  readonly id: string;
  /** In the host's PID namespace. */
  readonly pid: number;
  /** Nanoseconds since the epoch. */
  readonly startedAt: bigint;
  readonly tty: boolean;
}

export interface RunningRun extends Run {
  readonly state: "running";
}

export interface ExitedRun extends Run {
  readonly state: "exited";
  /** Nanoseconds since the epoch. */
  readonly finishedAt: bigint;
  /** 128 + signal if it was killed by a signal. */
  readonly exitCode: number;
  /** 0 if it was not killed by a signal. */
  readonly signal: number;
  readonly oomKilled: boolean;
}

export type ContainerRun = RunningRun | ExitedRun;

/** An OCI runtime binary, which replaces the monitor's own handler. */
export interface OciHandler {
  /** Its path. */
  readonly binary: string;
  /** The directory where it keeps its state (`--root`). */
  readonly root: string;
}

export interface StartRequest {
  readonly id: string;
  /** Directory with config.json and rootfs.json (PROTOCOL.md, "Files of a pod"). */
  readonly bundle: string;
  /** Absolute and without links; missing directories are created. No log when absent. */
  readonly logPath?: string;
  readonly stdin: boolean;
  /** Closes its stdin when the first client detaches. */
  readonly stdinOnce: boolean;
  /** File with a compiled filter (Host.compileSeccomp); required by a spec with `linux.seccomp`. */
  readonly seccompFilter?: string;
  /** The monitor's own when absent. */
  readonly handler?: OciHandler;
  /** The container whose PID namespace it joins; config.json refers to that as `<bundle>/pid-namespace`. */
  readonly pidOf?: string;
}

export interface ExecRequest {
  readonly id: string;
  readonly args: readonly string[];
  readonly tty: boolean;
  readonly stdin: boolean;
  /** Milliseconds, 0 for no limit. */
  readonly timeoutMs: number;
  /** Size of its terminal, 0 to 65535 each; 0 when absent. */
  readonly columns?: number;
  readonly rows?: number;
}

export interface ExecOutcome {
  /** 128 + signal if it was killed by a signal. */
  readonly exitCode: number;
  /** 0 if it was not killed by a signal; always 0 for an attach. */
  readonly signal: number;
}

export interface ExecSyncRequest {
  readonly id: string;
  readonly args: readonly string[];
  /** Milliseconds, 0 for no limit. */
  readonly timeoutMs: number;
  /** Limits its output in addition to the per-call limit; no such limit when absent. */
  readonly room?: OutputRoom;
}

/** A share of a memory budget for many outputs. */
export interface OutputRoom {
  /** Reserves this many bytes in total: at once, or through a promise if it must wait; that rejects without room. */
  hold(bytes: number): Promise<void> | undefined;
}

export interface ExecSyncResult {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly exitCode: number;
}

/**
 * A running exec or attach. Back-pressure reaches the process: if one output is not read, both outputs of this session
 * stop (they share a connection), but no other session's. Destroying a stream drops its bytes.
 */
export interface Session {
  /** Ending it only closes the process's stdin. Destroyed when the session ends. */
  readonly stdin: Writable;
  /** Like `stderr`, ends with the session, however `done` settles, and never emits an error. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Sets the terminal's size, 0 to 65535 each; a no-op without a terminal. */
  resize(columns: number, rows: number): void;
  /** Resolves when the process has exited and all output has been passed to the streams; rejects as calls do. */
  readonly done: Promise<ExecOutcome>;
  /** Ends the session: an exec's process is killed, an attach detaches; `done` rejects with Cancelled. */
  cancel(): void;
}

export type MonitorEvent =
  | { readonly type: "state"; readonly containers: readonly ContainerRun[] }
  | { readonly type: "exited"; readonly container: ExitedRun }
  | { readonly type: "oom"; readonly id: string }
  /** The init of the pod's shared PID namespace died, and with it all processes in that namespace. */
  | { readonly type: "initLost" };

export interface Deadline {
  /** Milliseconds from now until the call rejects with DeadlineExceeded; for a session, this limits its start only. */
  readonly timeoutMs: number;
  /** If it aborts, the call, or the session created by it, rejects with Cancelled. */
  readonly signal?: AbortSignal;
}

/**
 * One pod's monitor. Every call is limited by its deadline and rejects with a KeelsonError from monitor-errors.ts:
 * `monitorUnreachable` (Unavailable) if the monitor is not listening, or a MonitorError for an ERROR of the monitor,
 * for example NotFound for an unknown container. Sessions and watches have their own connection; the other calls share
 * one that is kept open, if the monitor supports that.
 */
export interface Monitor {
  /** The monitor's version, its pid, and the pid of the init of a shared PID namespace. */
  hello(deadline: Deadline): Promise<{ readonly pid: number; readonly initPid?: number; readonly version: string }>;
  /** All containers of the pod that have been started and not deleted. */
  state(deadline: Deadline): Promise<readonly ContainerRun[]>;
  /** Resolves after the container's execve. A start that fails, times out or is cancelled leaves only an empty log. */
  start(request: StartRequest, deadline: Deadline): Promise<ContainerRun>;
  /** Waits for the exit; the deadline must be longer than `timeoutMs`. */
  stop(id: string, signal: number, timeoutMs: number, deadline: Deadline): Promise<ExitedRun>;
  /** Sends a signal, given by number, to the container's init. */
  kill(id: string, signal: number, deadline: Deadline): Promise<void>;
  /** Removes the cgroup, mounts and exit record of a container that has exited. */
  delete(id: string, deadline: Deadline): Promise<void>;
  /** Resolves once the process runs. */
  exec(request: ExecRequest, deadline: Deadline): Promise<Session>;
  /**
   * Runs a command to completion. Keeps the head of its output, stdout and stderr together below the 16 MiB that CRI
   * clients accept in a message (each at least half of that), and reads and drops the rest. The deadline applies to the
   * start; past `request.timeoutMs` it rejects with DeadlineExceeded.
   */
  execSync(request: ExecSyncRequest, deadline: Deadline): Promise<ExecSyncResult>;
  /** With `stdin` the client is interactive: output of a container that has a stdin waits for it (PROTOCOL.md, "Calls"). */
  attach(id: string, stdin: boolean, deadline: Deadline): Promise<Session>;
  /** Resolves once the new log file exists. */
  reopenLog(id: string, deadline: Deadline): Promise<void>;
  /** Sets sysctls in the pod's own network namespace, by dotted name. */
  setNetworkSysctls(sysctls: Readonly<Record<string, string>>, deadline: Deadline): Promise<void>;
  /** Applies `resources`, the runtime spec's `linux.resources`, either completely or not at all. */
  update(id: string, resources: object, deadline: Deadline): Promise<void>;
  /** Opens a connection to localhost:port in the pod; ending it half-closes, destroying it closes. */
  portForward(port: number, deadline: Deadline): Promise<Duplex>;
  /**
   * Yields events until `signal` aborts or the monitor closes the connection (which it does to a watcher that is too
   * slow); the first is always a `state`. Rejects as calls do if the watch cannot start.
   */
  watch(signal: AbortSignal): AsyncIterable<MonitorEvent>;
  /**
   * Shuts the pod down: running processes get SIGTERM and `graceMs` to exit. Cgroups, mounts and pins are removed when
   * it resolves, and the monitor exits soon after.
   */
  shutdown(graceMs: number, deadline: Deadline): Promise<void>;
}
