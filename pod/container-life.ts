// StartContainer and StopContainer. Removal is in container-remove.ts.

import { mkdir, realpath } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { isDoneWithin, KeelsonError, type Monitor, MonitorError, messageOf } from "../native/index.ts";
import { type Container, exitedPhase } from "./container.ts";
import { type Environment, limits } from "./environment.ts";
import { podErrors } from "./errors.ts";
import { announce } from "./events-of.ts";
import { containerRecord } from "./sandbox-record.ts";
import { signalNumber } from "./signals.ts";
import { hasSeccomp } from "./spec/seccomp.ts";
import type { ExitedPhase } from "./types.ts";

const sigkill = 9;

/** Sends one message to the pod's monitor. A failure leaves the container exited with code 128, reason StartError. */
export async function startContainer(env: Environment, container: Container): Promise<void> {
  const { sandbox, phase } = container;
  if (phase.state !== "created") {
    throw podErrors.containerState({ id: container.id, state: phase.state, step: "starting it", wanted: "created" });
  }
  if (sandbox.phase.life !== "ready" || container.removing)
    throw podErrors.sandboxNotReady({ id: sandbox.id, step: "starting a container" });
  const giveUp = new AbortController();
  const ended = Promise.withResolvers<void>();
  container.starting = { ended: ended.promise, giveUp: () => giveUp.abort() };
  try {
    await start(env, container, sandbox.phase.monitor, giveUp.signal);
  } finally {
    container.starting = undefined;
    ended.resolve();
  }
}

async function start(env: Environment, container: Container, monitor: Monitor, signal: AbortSignal): Promise<void> {
  const { sandbox } = container;
  await sandbox.handler.check();
  try {
    if (hasSeccomp(container.config.security) && container.seccompFilter === undefined)
      throw podErrors.seccompFilterMissing({ id: container.id });
    const logPath = await plainLogPath(container);
    const run = await monitor.start(
      {
        id: container.id,
        bundle: container.bundle,
        stdin: container.config.stdin,
        stdinOnce: container.config.stdinOnce,
        ...(logPath === undefined ? {} : { logPath }),
        ...(container.seccompFilter === undefined ? {} : { seccompFilter: container.seccompFilter }),
        ...(container.config.security.namespaces.pid === "target"
          ? { pidOf: container.config.security.namespaces.targetId }
          : {}),
        ...(sandbox.handler.oci === undefined
          ? {}
          : {
              handler: { binary: sandbox.handler.oci.binary, root: `${env.runDirectory}/oci/${sandbox.handler.name}` },
            }),
      },
      { timeoutMs: limits.containerStart, signal },
    );
    if (run.state === "running") applyStart(env, container, run.startedAt, run.pid);
    else applyExit(env, container, exitedPhase(run));
  } catch (error) {
    // A start that the monitor reports as failed has left nothing behind. A start without an answer must be aborted.
    if (!(error instanceof MonitorError)) await endUnanswered(env, container, monitor);
    const cause =
      signal.aborted && !(error instanceof MonitorError) ? podErrors.startStopped({ id: container.id }) : error;
    const reason = messageOf(cause);
    const now = env.clock();
    applyExit(env, container, {
      state: "exited",
      startedAt: 0n,
      finishedAt: now,
      exitCode: 128,
      reason: "StartError",
      message: reason,
    });
    throw cause instanceof KeelsonError ? cause : podErrors.startFailed({ id: container.id, reason }, error);
  }
}

/** Closing the connection aborts the start, but it may have succeeded just before, so the container is killed. */
async function endUnanswered(env: Environment, container: Container, monitor: Monitor): Promise<void> {
  try {
    const exited = await monitor.stop(container.id, sigkill, 0, { timeoutMs: limits.shutdown });
    applyExit(env, container, exitedPhase(exited));
  } catch (error) {
    if (error instanceof KeelsonError && error.code === "NotFound") return;
    env.log(
      "warn",
      `container ${container.id}: the monitor did not confirm that its start was aborted: ${String(error)}`,
    );
  }
}

/**
 * The log path for the monitor, which follows no symlinks in it. Symlinks above the pod's log directory belong to the
 * node (for example a relocated /var/log) and are resolved here. The directory itself and all below it belong to the
 * pod, where a symlink could trick root into creating files elsewhere.
 */
async function plainLogPath({ logPath, config, sandbox }: Container): Promise<string | undefined> {
  if (logPath === "") return undefined;
  const directory = resolve(sandbox.config.logDirectory);
  return join(await realDirectory(dirname(directory)), basename(directory), config.logPath);
}

/** Created when missing. Asynchronous, because logs may be on a file system that hangs. */
async function realDirectory(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    await mkdir(path, { recursive: true, mode: 0o755 });
    return await realpath(path);
  }
}

/** The monitor's answer and its event race; the first one counts. */
export function applyStart(env: Environment, container: Container, startedAt: bigint, pid: number): void {
  if (container.phase.state !== "created") return;
  container.setPhase({ state: "running", startedAt, pid });
  announce(env, container, "started");
  saveBehind(env, container, "start");
}

export function applyExit(env: Environment, container: Container, phase: ExitedPhase): void {
  if (container.phase.state === "exited") return;
  const isUnannounced = container.phase.state === "created" && phase.startedAt !== 0n;
  container.setPhase(phase);
  if (isUnannounced) announce(env, container, "started");
  announce(env, container, "stopped");
  saveBehind(env, container, "exit");
}

/** Not awaited: the monitor knows the phase too, and recovery trusts the monitor. */
function saveBehind(env: Environment, container: Container, step: "start" | "exit"): void {
  env.records.save(containerRecord(container)).catch((error: unknown) => {
    env.log("error", `container ${container.id}: its ${step} could not be recorded: ${String(error)}`);
  });
}

/** For a container that no longer runs (the monitor does not know it) and whose exit was not observed. */
export function applyUnseenExit(env: Environment, container: Container): void {
  const { phase } = container;
  if (phase.state !== "running") return;
  applyExit(env, container, {
    state: "exited",
    startedAt: phase.startedAt,
    finishedAt: env.clock(),
    exitCode: 255,
    reason: "Unknown",
    message: "The container's process exited without a record of its exit code.",
  });
}

/** Waits for a start in progress for at most the stop's grace period, then aborts the start. */
async function endOfStart({ starting }: Container, timeoutMs: number): Promise<void> {
  if (starting === undefined) return;
  if (await isDoneWithin(starting.ended, timeoutMs)) return;
  starting.giveUp();
  await starting.ended;
}

/**
 * Sends the stop signal, and SIGKILL after `timeoutMs` (0: at once). Later calls can only shorten the grace period.
 * Continues in the monitor when the caller gives up.
 */
export async function stopContainer(env: Environment, container: Container, timeoutMs: number): Promise<void> {
  const begun = performance.now();
  await endOfStart(container, timeoutMs);
  if (container.phase.state !== "running") return;
  const { monitor } = container.sandbox;
  if (monitor === undefined) return;
  container.stops += 1;
  try {
    await container.checkpoint?.breakOff(timeoutMs === 0);
    const signal = signalNumber(container.stopSignal) ?? 15;
    const leftMs = Math.max(0, Math.floor(timeoutMs - (performance.now() - begun)));
    const exited = await monitor.stop(container.id, signal, leftMs, { timeoutMs: leftMs + limits.shutdown });
    applyExit(env, container, exitedPhase(exited));
  } catch (error) {
    if (!(error instanceof KeelsonError && error.code === "NotFound")) throw error;
    applyUnseenExit(env, container);
  } finally {
    container.stops -= 1;
  }
}
