// Watching a pod's monitor: exits become phases as they happen, a dead monitor ends its pod.

import { setTimeout as delay } from "node:timers/promises";
import { KeelsonError, type MonitorEvent } from "../native/index.ts";
import { exitedPhase } from "./container.ts";
import { applyExit, applyStart } from "./container-life.ts";
import { type Environment, limits } from "./environment.ts";
import { announceSandbox } from "./events-of.ts";
import { clearRemains } from "./remains.ts";
import type { Sandbox } from "./sandbox.ts";
import { sandboxRecord } from "./sandbox-record.ts";
import { markStopped } from "./sandbox-stop.ts";

const reconnectMs = 100;

/** Until the sandbox stops. A monitor that does not answer is asked again; one that is gone ends the pod. */
export async function watchSandbox(env: Environment, sandbox: Sandbox): Promise<void> {
  const { signal } = sandbox.watch;
  while (!signal.aborted && sandbox.monitor !== undefined) {
    try {
      for await (const event of sandbox.monitor.watch(signal)) apply(env, sandbox, event);
    } catch (error) {
      if (signal.aborted) return;
      env.log("warn", `pod sandbox ${sandbox.id}: the watch over its monitor broke: ${String(error)}`);
    }
    if (signal.aborted) return;
    if (await isGone(sandbox)) return await sandboxLost(env, sandbox);
    await delay(reconnectMs, undefined, { signal }).catch(() => undefined);
  }
}

function apply(env: Environment, sandbox: Sandbox, event: MonitorEvent): void {
  switch (event.type) {
    case "state":
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
      env.log("info", `container ${event.id}: the kernel killed a process of it for want of memory`);
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

/** The monitor died (it never exits by itself): its containers are ended, the pod is not ready. */
async function sandboxLost(env: Environment, sandbox: Sandbox): Promise<void> {
  env.log("error", `pod sandbox ${sandbox.id}: its monitor ${sandbox.monitorPid} is gone, so the pod is ended`);
  const remains = {
    podDirectory: sandbox.podDirectory,
    cgroup: sandbox.cgroup,
    ownsCgroup: sandbox.ownsCgroup,
    containerIds: [...sandbox.containers.keys()],
    monitorPid: 0,
  };
  // While the network namespace is still pinned: without it plugins leave rules behind.
  await env.network.detach(sandbox.id).catch((error: unknown) => {
    env.log("warn", `pod sandbox ${sandbox.id}: its network is still being taken down: ${String(error)}`);
  });
  await clearRemains(env, remains).catch((error: unknown) => {
    env.log("error", `pod sandbox ${sandbox.id}: its remains could not be cleared: ${String(error)}`);
  });
  markStopped(env, sandbox);
  announceSandbox(env, sandbox, "stopped");
  await env.records.save(sandboxRecord(sandbox));
}
