// StopPodSandbox and RemovePodSandbox.

import { applyExit, stopContainer } from "./container-life.ts";
import { type Environment, limits } from "./environment.ts";
import { announceSandbox } from "./events-of.ts";
import { clearRemains } from "./remains.ts";
import type { Sandbox } from "./sandbox.ts";
import { sandboxRecord } from "./sandbox-record.ts";

/**
 * Kills the containers, gives the addresses back, ends the monitor. Each part is tried even when one
 * before it failed; what failed is in the sandbox's leftovers and rejects, so that the caller asks again.
 */
export async function stopSandbox(env: Environment, sandbox: Sandbox): Promise<void> {
  const wasReady = sandbox.ready;
  sandbox.stopping = true;
  sandbox.watch.abort();
  const failures: { step: string; error: unknown }[] = [];
  const attempt = async (step: string, work: () => Promise<void>) => {
    await work().catch((error: unknown) => failures.push({ step, error }));
  };

  await Promise.all(
    [...sandbox.containers.values()].map(async (container) => {
      await attempt(`kill container ${container.id}`, async () => await stopContainer(env, container, 0));
    }),
  );
  await attempt("detach the network", async () => await env.network.detach(sandbox.id));
  await attempt("end the monitor", async () => await endMonitor(env, sandbox));

  markStopped(env, sandbox);
  sandbox.setLeftovers(
    failures.map(({ step, error }) => `${step}: ${error instanceof Error ? error.message : String(error)}`),
  );
  await attempt("save the record", async () => await env.records.save(sandboxRecord(sandbox)));
  if (wasReady) announceSandbox(env, sandbox, "stopped");
  const [first] = failures.filter(({ step }) => !step.startsWith("kill container"));
  if (first !== undefined) throw first.error;
}

async function endMonitor(env: Environment, sandbox: Sandbox): Promise<void> {
  try {
    await sandbox.monitor?.shutdown(0, { timeoutMs: limits.shutdown });
  } catch (error) {
    env.log(
      "warn",
      `pod sandbox ${sandbox.id}: its monitor did not shut down, so its remains are cleared: ${String(error)}`,
    );
  }
  await clearRemains(env, {
    podDirectory: sandbox.podDirectory,
    cgroup: sandbox.cgroup,
    ownsCgroup: sandbox.ownsCgroup,
    containerIds: [...sandbox.containers.keys()],
    monitorPid: sandbox.monitorPid,
  });
}

/** No process of the pod lives any more: a container whose end nobody saw gets the code for "unknown". */
export function markStopped(env: Environment, sandbox: Sandbox): void {
  for (const container of sandbox.containers.values()) {
    if (container.phase.state !== "running" && container.phase.state !== "unknown") continue;
    applyExit(env, container, {
      state: "exited",
      startedAt: container.phase.state === "running" ? container.phase.startedAt : 0n,
      finishedAt: env.clock(),
      exitCode: 255,
      reason: "Unknown",
      message: "The pod ended without a record of this container's exit code.",
    });
  }
  sandbox.becomeNotReady();
}

/** Stops what runs, then forgets the sandbox. A network whose teardown failed stays with cni/, which retries it. */
export async function removeSandbox(env: Environment, sandbox: Sandbox): Promise<void> {
  await stopSandbox(env, sandbox).catch((error: unknown) => {
    if (sandbox.leftovers.some((leftover) => !leftover.startsWith("detach the network"))) throw error;
    env.log("warn", `pod sandbox ${sandbox.id} goes, its network is still being taken down: ${String(error)}`);
  });
  for (const container of sandbox.containers.values()) {
    await env.images.removeSnapshot(container.id);
    await env.records.remove(container.id);
    sandbox.containers.delete(container.id);
  }
  await env.host.removeTree(sandbox.podDirectory);
  await env.records.remove(sandbox.id);
}
