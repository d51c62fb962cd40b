// ExecSync, Exec, Attach and ReopenContainerLog for a running container, PortForward for a ready pod. All of them
// bypass the pod's queue.

import { constants } from "node:os";
import type { Duplex } from "node:stream";
import { type Monitor, MonitorError } from "../native/index.ts";
import type { Container } from "./container.ts";
import { limits } from "./environment.ts";
import { podErrors } from "./errors.ts";
import type { OutputBudget } from "./output-budget.ts";
import type { Sandbox } from "./sandbox.ts";
import type { ExecRequest, ExecSyncResult, Session } from "./types.ts";

/** Throws containerState unless the container is running; `step` is the operation for the error message. */
export function monitorOfRunning({ id, phase, sandbox }: Container, step: string): Monitor {
  if (phase.state !== "running" || sandbox.monitor === undefined) {
    throw podErrors.containerState({ id, state: phase.state, step, wanted: "running" });
  }
  return sandbox.monitor;
}

/** `timeoutMs` 0 means no limit. The output counts against `outputs` until `answered` resolves. */
export async function execSync(
  container: Container,
  command: readonly string[],
  timeoutMs: number,
  outputs: OutputBudget,
  { signal, answered }: { readonly signal: AbortSignal; readonly answered: Promise<void> },
): Promise<ExecSyncResult> {
  const { id, sandbox } = container;
  const monitor = monitorOfRunning(container, "running a command in it");
  await sandbox.handler.check();
  const room = outputs.room(id);
  answered.then(room.leave);
  return await monitor.execSync({ id, args: command, timeoutMs, room }, { timeoutMs: limits.execStart, signal });
}

/** The caller must end the session. */
export async function exec(
  container: Container,
  { command, tty, stdin }: ExecRequest,
  signal: AbortSignal,
): Promise<Session> {
  const { id, sandbox } = container;
  const monitor = monitorOfRunning(container, "running a command in it");
  await sandbox.handler.check();
  return await monitor.exec({ id, args: command, tty, stdin, timeoutMs: 0 }, { timeoutMs: limits.execStart, signal });
}

export async function attach(container: Container, stdin: boolean, signal: AbortSignal): Promise<Session> {
  const monitor = monitorOfRunning(container, "attaching to it");
  return await monitor.attach(container.id, stdin, { timeoutMs: limits.call, signal });
}

/** Connects to `port` on the pod's localhost. Rejects with portClosed when nothing listens there. */
export async function portForward({ id, monitor }: Sandbox, port: number, signal: AbortSignal): Promise<Duplex> {
  if (monitor === undefined) throw podErrors.sandboxNotReady({ id, step: "forwarding a port" });
  return await monitor.portForward(port, { timeoutMs: limits.execStart, signal }).catch((error: unknown) => {
    const isRefused = error instanceof MonitorError && error.errno === constants.errno.ECONNREFUSED;
    throw isRefused ? podErrors.portClosed({ id, port }, error) : error;
  });
}

export async function reopenLog(container: Container): Promise<void> {
  const monitor = monitorOfRunning(container, "reopening its log");
  if (container.logPath === "") throw podErrors.logPathless({ id: container.id });
  await monitor.reopenLog(container.id, { timeoutMs: limits.call });
}
