// Watching a pod's monitor: exits become phases as they happen, a dead monitor ends its pod.

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

/** Until the sandbox stops. A monitor that does not answer is asked again; one that is gone ends the pod. */
export async function watchSandbox(env: Environment, sandbox: Sandbox): Promise<void> {
  const { signal } = sandbox.watch;
  while (!signal.aborted && sandbox.monitor !== undefined) {
    // A start that is answered after the watch's first event was sent is not in it.
    const running = [...sandbox.containers.values()].filter(({ phase }) => phase.state === "running");
    try {
      for await (const event of sandbox.monitor.watch(signal)) {
        if (event.type === "initLost") return await initLost(env, sandbox);
        apply(env, sandbox, event, running);
      }
    } catch (error) {
      if (signal.aborted) return;
      env.log("warn", `pod sandbox ${sandbox.id}: the watch over its monitor broke: ${String(error)}`);
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
      env.log("info", `container ${event.id}: the kernel killed one of its processes: out of memory`);
  }
}

/** Nobody listens on its socket: the kernel closed it with the process. Slow or frozen is not gone. */
export async function isGone(sandbox: Sandbox): Promise<boolean> {
  try {
    await sandbox.monitor?.hello({ timeoutMs: limits.call });
    return false;
  } catch (error) {
    return error instanceof KeelsonError && error.name === "monitorUnreachable";
  }
}

/** The monitor died (it never exits by itself): its containers are ended, the pod is not ready, what it left is cleared. */
async function sandboxLost(env: Environment, sandbox: Sandbox): Promise<void> {
  env.log("error", `pod sandbox ${sandbox.id}: its monitor ${sandbox.monitorPid} is gone, so the pod is ended`);
  // Who hears that the pod is not ready finds its containers ended. What cannot be killed now is tried again below.
  await killProcesses(env, remainsOf(sandbox)).catch(() => undefined);
  await endContainers(env, sandbox);
  await beginStop(env, sandbox);
  await stopInTurn(env, sandbox);
}

/** PID 1 of the pod's shared namespace died, and all in there with it: nothing can start in this pod any more. */
async function initLost(env: Environment, sandbox: Sandbox): Promise<void> {
  env.log("error", `pod sandbox ${sandbox.id}: the init of its PID namespace has died, so the pod is ended`);
  await beginStop(env, sandbox);
  await stopInTurn(env, sandbox);
}

async function stopInTurn(env: Environment, sandbox: Sandbox): Promise<void> {
  await sandbox.queue.run(`pod sandbox ${sandbox.id}`, "stopping", new AbortController().signal, limits.queue, () =>
    stopSandbox(env, sandbox),
  );
}
