// What the rest of Keelson sees of a pod's monitor; PROTOCOL.md tells what stands behind it.

import type { Duplex, Readable, Writable } from "node:stream";

/** One life of a container's init. */
interface Run {
  readonly id: string;
  /** As the host sees it. */
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
  /** 128 + signal for a death by signal. */
  readonly exitCode: number;
  /** 0 when it was no signal. */
  readonly signal: number;
  readonly oomKilled: boolean;
}

export type ContainerRun = RunningRun | ExitedRun;

/** An OCI runtime binary, which takes the place of the monitor's own handler. */
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
  /** Absolute and without links; missing directories are made. No log when absent. */
  readonly logPath?: string;
  readonly stdin: boolean;
  /** The first client that leaves ends its stdin. */
  readonly stdinOnce: boolean;
  /** File of a compiled filter (Host.compileSeccomp); needed by a spec with `linux.seccomp`. */
  readonly seccompFilter?: string;
  /** The monitor's own when absent. */
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
  /** Its terminal's size, 0 to 65535 each; 0 when absent. */
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
 * One pod's monitor. Every call is bounded by its deadline and rejects with a KeelsonError of monitor-errors.ts:
 * `monitorUnreachable` (Unavailable) when nobody listens, a MonitorError for the monitor's own ERROR, NotFound among them
 * for a container that it does not know. Sessions and watches have a connection of their own; the other calls share one
 * that is kept, where the monitor keeps it too.
 */
export interface Monitor {
  /** Who it is: its version, its process and that of a shared PID namespace's init. */
  hello(deadline: Deadline): Promise<{ readonly pid: number; readonly initPid?: number; readonly version: string }>;
  /** All containers of the pod that were started and not deleted. */
  state(deadline: Deadline): Promise<readonly ContainerRun[]>;
  /** Resolves after the container's execve; one that fails, is late or whose caller is gone leaves nothing but an empty log. */
  start(request: StartRequest, deadline: Deadline): Promise<ContainerRun>;
  /** Waits for the exit; give a deadline above `timeoutMs`. */
  stop(id: string, signal: number, timeoutMs: number, deadline: Deadline): Promise<ExitedRun>;
  /** Sends the container's init a signal, by its number. */
  kill(id: string, signal: number, deadline: Deadline): Promise<void>;
  /** Removes cgroup, mounts and exit record of a container that has exited. */
  delete(id: string, deadline: Deadline): Promise<void>;
  /** Resolves once the process runs. */
  exec(request: ExecRequest, deadline: Deadline): Promise<Session>;
  /**
   * Runs a command to its end. Keeps the head of its output, stdout and stderr together below the 16 MiB
   * that CRI clients take in a message (each at least half of that), and reads on past it. The deadline
   * bounds the start; past `request.timeoutMs` it rejects with DeadlineExceeded.
   */
  execSync(request: ExecSyncRequest, deadline: Deadline): Promise<ExecSyncResult>;
  /** With `stdin`, as a client that types: the output of a container that has one waits for it (PROTOCOL.md, "Calls"). */
  attach(id: string, stdin: boolean, deadline: Deadline): Promise<Session>;
  /** Resolves once the new log file is there. */
  reopenLog(id: string, deadline: Deadline): Promise<void>;
  /** Of the pod's own network namespace, by dotted name. */
  setNetworkSysctls(sysctls: Readonly<Record<string, string>>, deadline: Deadline): Promise<void>;
  /** `resources` is the runtime spec's `linux.resources`: all of it takes effect, or nothing. */
  update(id: string, resources: object, deadline: Deadline): Promise<void>;
  /** A connection to localhost:port in the pod; ending it half-closes, destroying it closes. */
  portForward(port: number, deadline: Deadline): Promise<Duplex>;
  /**
   * Events until `signal` aborts or the monitor hangs up (it does to a watcher that is too slow); the first
   * is always a `state`. Rejects as calls do when the watch cannot begin.
   */
  watch(signal: AbortSignal): AsyncIterable<MonitorEvent>;
  /**
   * Ends the pod: what runs gets SIGTERM and `graceMs` to go. Cgroups, mounts and pins are gone when it resolves, the
   * monitor itself soon after.
   */
  shutdown(graceMs: number, deadline: Deadline): Promise<void>;
}
