// Converts between the JSON of the monitor's protocol (PROTOCOL.md, "Calls") and the types in monitor.ts.
//
// The monitor may be older than the daemon, so its messages are checked field by field.

import { asArray, asInteger, asObject, asString, type JsonObject, member } from "../json/json.ts";
import { FrameError } from "./frames.ts";
import type { ContainerRun, ExecOutcome, ExecRequest, ExitedRun, MonitorEvent, StartRequest } from "./monitor.ts";

/** The request of a call: `op` and the members that PROTOCOL.md lists for it. Undefined members are omitted. */
export interface CallMessage {
  readonly op: string;
  readonly id?: string;
  readonly [member: string]: unknown;
}

export interface Ready {
  readonly pid: number;
  readonly initPid?: number;
}

/** The payload of the readiness frame: `{"pid", "init_pid"}`. */
export function parseReady(message: JsonObject): Ready {
  const pid = integer(message, "pid");
  const initPid = member(message, "init_pid") === undefined ? 0 : integer(message, "init_pid");
  return initPid === 0 ? { pid } : { pid, initPid };
}

export function parseHello(message: JsonObject): Ready & { readonly version: string } {
  return { ...parseReady(message), version: text(message, "version") };
}

export function parseState(message: JsonObject): readonly ContainerRun[] {
  return list(message, "containers").map(parseRun);
}

export function parseRun(message: JsonObject): ContainerRun {
  return text(message, "state") === "exited" ? parseExited(message) : parseRunning(message);
}

export function parseExited(message: JsonObject): ExitedRun {
  if (text(message, "state") !== "exited") throw new FrameError("a container that should have exited has not");
  return {
    state: "exited",
    ...parseIdentity(message),
    finishedAt: time(message, "finished_at"),
    exitCode: integer(message, "exit_code"),
    signal: integer(message, "signal"),
    oomKilled: truth(message, "oom_killed"),
  };
}

function parseRunning(message: JsonObject): ContainerRun {
  if (text(message, "state") !== "running") throw new FrameError("a container is in an unknown state");
  return { state: "running", ...parseIdentity(message) };
}

function parseIdentity(message: JsonObject) {
  return {
    id: text(message, "id"),
    pid: integer(message, "pid"),
    startedAt: time(message, "started_at"),
    tty: truth(message, "tty"),
  };
}

/** Parses the REPLY to an exec, or to an attach (which has no `signal`). */
export function parseOutcome(message: JsonObject): ExecOutcome {
  const signal = member(message, "signal") === undefined ? 0 : integer(message, "signal");
  return { exitCode: integer(message, "exit_code"), signal };
}

/** Undefined for an event type that this version does not know. */
export function parseEvent(message: JsonObject): MonitorEvent | undefined {
  switch (text(message, "type")) {
    case "state":
      return { type: "state", containers: parseState(message) };
    case "exited":
      return { type: "exited", container: parseExited(object(message, "container")) };
    case "oom":
      return { type: "oom", id: text(message, "id") };
    case "init_lost":
      return { type: "initLost" };
    default:
      return undefined;
  }
}

export function startMessage(request: StartRequest): CallMessage {
  return {
    op: "start",
    id: request.id,
    bundle: request.bundle,
    log_path: request.logPath,
    stdin: request.stdin,
    stdin_once: request.stdinOnce,
    seccomp_bpf: request.seccompFilter,
    pid_of: request.pidOf,
    handler: request.handler,
  };
}

export function execMessage(request: ExecRequest): CallMessage {
  return {
    op: "exec",
    id: request.id,
    args: request.args,
    tty: request.tty,
    stdin: request.stdin,
    timeout_ms: request.timeoutMs,
    columns: request.columns,
    rows: request.rows,
  };
}

function wrong(name: string, wanted: string): FrameError {
  return new FrameError(`"${name}" is not ${wanted}`);
}

function text(message: JsonObject, name: string): string {
  const value = asString(member(message, name));
  if (value === undefined) throw wrong(name, "a string");
  return value;
}

function integer(message: JsonObject, name: string): number {
  const value = asInteger(member(message, name));
  if (value === undefined) throw wrong(name, "an integer");
  return value;
}

function truth(message: JsonObject, name: string): boolean {
  const value = member(message, name);
  if (typeof value !== "boolean") throw wrong(name, "true or false");
  return value;
}

/** Nanoseconds since the epoch, as a decimal string. */
function time(message: JsonObject, name: string): bigint {
  const value = text(message, name);
  if (!/^\d{1,20}$/.test(value)) throw wrong(name, "a time in nanoseconds");
  return BigInt(value);
}

function object(message: JsonObject, name: string): JsonObject {
  const value = asObject(member(message, name));
  if (value === undefined) throw wrong(name, "an object");
  return value;
}

function list(message: JsonObject, name: string): JsonObject[] {
  const value = asArray(member(message, name));
  if (value === undefined) throw wrong(name, "an array");
  return value.map((item) => {
    const each = asObject(item);
    if (each === undefined) throw wrong(name, "an array of objects");
    return each;
  });
}
