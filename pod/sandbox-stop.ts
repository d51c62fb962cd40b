// StopPodSandbox and RemovePodSandbox, and the cleanup of a sandbox whose start failed or was interrupted.

import { setTimeout as delay } from "node:timers/promises";
import { messageOf, settled } from "../native/index.ts";
import { isScoped } from "./cgroup-driver.ts";
import { applyUnseenExit, stopContainer } from "./container-life.ts";
import { type Environment, limits } from "./environment.ts";
import { announceSandbox } from "./events-of.ts";
import { clearCgroups, clearRemains, killProcesses, type Remains } from "./remains.ts";
import type { Sandbox } from "./sandbox.ts";
import { sandboxRecord } from "./sandbox-record.ts";

/** How long a monitor that has answered its shutdown may take to exit. */
const exitMs = 1_000;

/**
 * Kills the containers, releases the addresses, shuts down the monitor. Each step is tried even when an earlier one
 * failed; failures are in the sandbox's leftovers and reject, so that the caller retries. The stop is recorded before
 * it begins: if the daemon dies meanwhile, the next one continues it.
 */
export async function stopSandbox(env: Environment, sandbox: Sandbox): Promise<void> {
  const isStopped = sandbox.life === "stopped";
  const hasFailed = sandbox.leftovers.length > 0;
  if (isStopped && !hasFailed && owedByNetwork(env, sandbox).length === 0) return;
  await beginStop(env, sandbox);
  const failures: Failure[] = [];

  await killContainers(env, sandbox);
  await attempt(failures, "detach the network", async () => await env.network.detach(sandbox.id));
  await attempt(failures, "shut down the monitor", async () => await endMonitor(env, sandbox));

  for (const container of sandbox.containers.values()) applyUnseenExit(env, container);
  if (failures.length === 0) sandbox.setPhase({ life: "stopped" });
  // Otherwise nothing has changed, and a stop after the removal would recreate the record.
  if (!isStopped) await recordStop(env, sandbox);
  if (!isStopped && !hasFailed) announceSandbox(env, sandbox, "stopped");
  settle(sandbox, failures);
}

/**
 * Removes everything that a failed or interrupted start created, except its record; what remains is in its leftovers.
 * Rejects when something remains, except for a network, whose teardown cni/ retries.
 */
export async function rollBackStart(env: Environment, sandbox: Sandbox): Promise<void> {
  const failures: Failure[] = [];
  await attempt(failures, "detach the network", async () => await env.network.detach(sandbox.id));
  await attempt(failures, "shut down the monitor", async () => await endMonitor(env, sandbox));
  await attempt(failures, "remove the pod directory", async () => await env.host.removeTree(sandbox.podDirectory));
  settle(sandbox, failures);
  sandbox.setLeftovers(owedByNetwork(env, sandbox).map((reason) => `detach the network: ${reason}`));
}

/** Like `rollBackStart`, but removes the record too. */
export async function removeFailedStart(env: Environment, sandbox: Sandbox): Promise<void> {
  await rollBackStart(env, sandbox);
  await env.records.remove(sandbox.id);
}

/** Errors of a pending network teardown. A failed detach does not reject, because cni/ has it on record and retries. */
export function owedByNetwork(env: Environment, { id }: Sandbox): string[] {
  const owed = env.network.leases().filter(({ sandboxId }) => sandboxId === id);
  return owed.map(({ state, lastError = state }) => lastError);
}

interface Failure {
  readonly step: string;
  readonly error: unknown;
}

async function attempt(failures: Failure[], step: string, work: () => Promise<void>): Promise<void> {
  await work().catch((error: unknown) => failures.push({ step, error }));
}

function settle(sandbox: Sandbox, failures: readonly Failure[]): void {
  sandbox.setLeftovers(failures.map(({ step, error }) => `${step}: ${messageOf(error)}`));
  const [first] = failures;
  if (first !== undefined) throw first.error;
}

/** From here on the pod no longer counts as ready, even after a daemon restart. */
export async function beginStop(env: Environment, sandbox: Sandbox): Promise<void> {
  sandbox.watch.abort();
  const { phase } = sandbox;
  if (phase.life !== "ready") return;
  sandbox.setPhase({ life: "stopping", monitor: phase.monitor, monitorPid: phase.monitorPid });
  await recordStop(env, sandbox);
}

/** A full disk must not prevent a stop: recovery then relies on what it finds on the host. */
async function recordStop(env: Environment, sandbox: Sandbox): Promise<void> {
  await env.records.save(sandboxRecord(sandbox)).catch((error: unknown) => {
    env.log("warn", `pod sandbox ${sandbox.id}: its stop could not be recorded, but continues: ${String(error)}`);
  });
}

/** Containers that survive this are killed when the monitor shuts down. */
async function killContainers(env: Environment, sandbox: Sandbox): Promise<void> {
  const kills =
    sandbox.monitor === undefined
      ? [killProcesses(env, remainsOf(sandbox))]
      : [...sandbox.containers.values()].map(async (container) => await stopContainer(env, container, 0));
  for (const kill of await Promise.allSettled(kills)) {
    if (kill.status === "rejected")
      env.log("warn", `pod sandbox ${sandbox.id}: a container was not killed: ${String(kill.reason)}`);
  }
}

async function endMonitor(env: Environment, sandbox: Sandbox): Promise<void> {
  const remains = remainsOf(sandbox);
  const { monitor } = sandbox;
  if (monitor === undefined) return await clearRemains(env, remains);
  try {
    await monitor.shutdown(0, { timeoutMs: limits.shutdown });
  } catch (error) {
    env.log(
      "warn",
      `pod sandbox ${sandbox.id}: its monitor did not shut down, so it is killed and cleaned up: ${String(error)}`,
    );
    return await clearRemains(env, remains);
  }
  // The monitor unmounts everything before it answers.
  ensureMonitorExits(env, remains);
  await clearCgroups(env, remains);
}

/** Kills the monitor in the background if it does not exit by itself. */
function ensureMonitorExits(env: Environment, { podDirectory, monitorPid }: Remains): void {
  const kill = async () => {
    await delay(exitMs, undefined, { ref: false });
    await env.monitors.kill(podDirectory, monitorPid);
  };
  kill().catch((error: unknown) => env.log("warn", `the monitor of ${podDirectory} has not exited: ${String(error)}`));
}

export function remainsOf(sandbox: Sandbox): Remains {
  const { podDirectory, netnsPath, cgroup, ownsCgroup, containers, monitorPid } = sandbox;
  const containerIds = [...containers.keys()];
  return { podDirectory, netnsPath, cgroup, isScope: isScoped(sandbox), ownsCgroup, containerIds, monitorPid };
}

/** Stops the sandbox, then removes all its state. A failed network teardown does not block it: cni/ retries that. */
export async function removeSandbox(env: Environment, sandbox: Sandbox): Promise<void> {
  await stopSandbox(env, sandbox);
  const forgetting = [...sandbox.containers.keys()].map(async (id) => {
    await env.images.removeSnapshot(id);
    await env.records.remove(id);
    sandbox.containers.delete(id);
  });
  await settled([...forgetting, env.host.removeTree(sandbox.podDirectory)]);
  await env.records.remove(sandbox.id);
}
