// Watches a pod's monitor: applies container exits as they happen; stops the pod when the monitor dies.

import { setTimeout as delay } from "node:timers/promises";
import { KeelsonError, type MonitorEvent } from "../native/index.ts";
import { type Container, exitedPhase } from "./container.ts";
import { applyExit, applyStart, applyUnseenExit } from "./container-life.ts";
import { type Environment, limits } from "./environment.ts";
import { endContainers } from "./exits.ts";
import { killProcesses } from "./remains.ts";
import type { Sandbox } from "./sandbox.ts";
import { beginStop, remainsOf, stopSandbox } from "./sandbox-stop.ts";

const reconnectMs = 100;

/** Runs until the sandbox stops. Reconnects to a monitor that does not answer; stops the pod if the monitor is dead. */
export async function watchSandbox(env: Environment, sandbox: Sandbox): Promise<void> {
  const { signal } = sandbox.watch;
  while (!signal.aborted && sandbox.monitor !== undefined) {
    // Taken first: containers that start after the watch's first event was sent are not in that event.
    const running = [...sandbox.containers.values()].filter(({ phase }) => phase.state === "running");
    try {
      for await (const event of sandbox.monitor.watch(signal)) {
        if (event.type === "initLost") return await initLost(env, sandbox);
        apply(env, sandbox, event, running);
      }
    } catch (error) {
      if (signal.aborted) return;
      env.log("warn", `pod sandbox ${sandbox.id}: the watch on its monitor failed: ${String(error)}`);
    }
    if (signal.aborted) return;
    const isLost = await isGone(sandbox);
    if (signal.aborted) return;
    if (isLost) return await sandboxLost(env, sandbox);
    await delay(reconnectMs, undefined, { signal }).catch(() => undefined);
  }
}

function apply(
  env: Environment,
  sandbox: Sandbox,
  event: Exclude<MonitorEvent, { type: "initLost" }>,
  running: readonly Container[],
): void {
  switch (event.type) {
    case "state":
      for (const container of running) {
        if (!event.containers.some(({ id }) => id === container.id)) applyUnseenExit(env, container);
      }
      for (const run of event.containers) {
        const container = sandbox.containers.get(run.id);
        if (container === undefined) continue;
        if (run.state === "running") applyStart(env, container, run.startedAt, run.pid);
        else applyExit(env, container, exitedPhase(run));
      }
      return;
    case "exited": {
      const container = sandbox.containers.get(event.container.id);
      if (container !== undefined) applyExit(env, container, exitedPhase(event.container));
      return;
    }
    case "oom":
      env.log("info", `container ${event.id}: the OOM killer killed one of its processes`);
  }
}

/** Whether the monitor is dead: nothing listens on its socket. A slow or frozen monitor is not dead. */
export async function isGone(sandbox: Sandbox): Promise<boolean> {
  try {
    await sandbox.monitor?.hello({ timeoutMs: limits.call });
    return false;
  } catch (error) {
    return error instanceof KeelsonError && error.name === "monitorUnreachable";
  }
}

/** The monitor died (it never exits by itself): kills its containers, marks the pod not ready and cleans up. */
async function sandboxLost(env: Environment, sandbox: Sandbox): Promise<void> {
  env.log("error", `pod sandbox ${sandbox.id}: its monitor ${sandbox.monitorPid} died, so the pod is stopped`);
  // First, so that a client that sees the pod as not ready finds its containers exited. Failures are retried below.
  await killProcesses(env, remainsOf(sandbox)).catch(() => undefined);
  await endContainers(env, sandbox);
  await beginStop(env, sandbox);
  await stopInTurn(env, sandbox);
}

/**
 * PID 1 of the pod's shared PID namespace died, and all its processes with it: nothing can start in this pod any more.
 */
async function initLost(env: Environment, sandbox: Sandbox): Promise<void> {
  env.log("error", `pod sandbox ${sandbox.id}: the init of its PID namespace died, so the pod is stopped`);
  await beginStop(env, sandbox);
  await stopInTurn(env, sandbox);
}

async function stopInTurn(env: Environment, sandbox: Sandbox): Promise<void> {
  await sandbox.queue.run(`pod sandbox ${sandbox.id}`, "stop", new AbortController().signal, limits.queue, () =>
    stopSandbox(env, sandbox),
  );
}
