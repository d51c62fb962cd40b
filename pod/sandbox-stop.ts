// StopPodSandbox and RemovePodSandbox, and the end of a sandbox whose start failed or was cut short.

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
 * Kills the containers, gives the addresses back, ends the monitor. Each part is tried even when one
 * before it failed; what failed is in the sandbox's leftovers and rejects, so that the caller asks again.
 * It is on record before it begins: cut short by the daemon's death, the next one goes on with it.
 */
export async function stopSandbox(env: Environment, sandbox: Sandbox): Promise<void> {
  const isStopped = sandbox.life === "stopped";
  const hasFailed = sandbox.leftovers.length > 0;
  if (isStopped && !hasFailed && owedByNetwork(env, sandbox).length === 0) return;
  await beginStop(env, sandbox);
  const failures: Failure[] = [];

  await killContainers(env, sandbox);
  await attempt(failures, "detach the network", async () => await env.network.detach(sandbox.id));
  await attempt(failures, "end the monitor", async () => await endMonitor(env, sandbox));

  for (const container of sandbox.containers.values()) applyUnseenExit(env, container);
  if (failures.length === 0) sandbox.setPhase({ life: "stopped" });
  // Nothing new otherwise; and a stop that comes after the removal would bring its record back.
  if (!isStopped || hasFailed) await writeDown(env, sandbox);
  if (!isStopped && !hasFailed) announceSandbox(env, sandbox, "stopped");
  settle(sandbox, failures);
}

/**
 * Takes down what a start made that failed or was cut short, but for its record; what is still there is among its
 * leftovers. Rejects for all of it but a network, which cni/ goes on with.
 */
export async function unmakeSandbox(env: Environment, sandbox: Sandbox): Promise<void> {
  const failures: Failure[] = [];
  await attempt(failures, "detach the network", async () => await env.network.detach(sandbox.id));
  await attempt(failures, "end the monitor", async () => await endMonitor(env, sandbox));
  await attempt(failures, "remove the pod directory", async () => await env.host.removeTree(sandbox.podDirectory));
  settle(sandbox, failures);
  sandbox.setLeftovers(owedByNetwork(env, sandbox).map((reason) => `detach the network: ${reason}`));
}

/** As `unmakeSandbox`, and its record. */
export async function removeUnmade(env: Environment, sandbox: Sandbox): Promise<void> {
  await unmakeSandbox(env, sandbox);
  await env.records.remove(sandbox.id);
}

/** What a teardown that failed still owes: it does not reject, cni/ has it on record and tries again. */
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

/** From here on nobody takes the pod for a ready one, whatever becomes of the daemon. */
export async function beginStop(env: Environment, sandbox: Sandbox): Promise<void> {
  sandbox.watch.abort();
  const { phase } = sandbox;
  if (phase.life !== "ready") return;
  sandbox.setPhase({ life: "stopping", monitor: phase.monitor, monitorPid: phase.monitorPid });
  await writeDown(env, sandbox);
}

/** A full disk must not keep a pod from being stopped: then recovery goes by what it finds of it on the host. */
async function writeDown(env: Environment, sandbox: Sandbox): Promise<void> {
  await env.records.save(sandboxRecord(sandbox)).catch((error: unknown) => {
    env.log("warn", `pod sandbox ${sandbox.id}: its stop goes on without a record of it: ${String(error)}`);
  });
}

/** What outlives this ends with the monitor. */
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
      `pod sandbox ${sandbox.id}: its monitor did not shut down, so its remains are cleared: ${String(error)}`,
    );
    return await clearRemains(env, remains);
  }
  // It has undone the mounts before it answered.
  seeMonitorOff(env, remains);
  await clearCgroups(env, remains);
}

/** It exits by itself; should it not, nobody has to wait for that. */
function seeMonitorOff(env: Environment, { podDirectory, monitorPid }: Remains): void {
  const kill = async () => {
    await delay(exitMs, undefined, { ref: false });
    await env.monitors.kill(podDirectory, monitorPid);
  };
  kill().catch((error: unknown) => env.log("warn", `the monitor of ${podDirectory} has not ended: ${String(error)}`));
}

export function remainsOf(sandbox: Sandbox): Remains {
  const { podDirectory, cgroup, ownsCgroup, containers, monitorPid } = sandbox;
  const containerIds = [...containers.keys()];
  return { podDirectory, cgroup, isScope: isScoped(sandbox), ownsCgroup, containerIds, monitorPid };
}

/** Stops what runs, then forgets the sandbox. A network whose teardown failed stays with cni/, which retries it. */
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
