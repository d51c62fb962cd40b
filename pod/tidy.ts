// Finishes the teardowns that a previous daemon began and removes its leftovers, a few pods at a time, after the daemon
// has started to serve.

import { trackWork } from "../native/index.ts";
import { leaveDaemonUnitLater } from "./cgroup-driver.ts";
import { recoverCheckpoints } from "./checkpoint.ts";
import type { Container } from "./container.ts";
import { removeContainer } from "./container-remove.ts";
import { type Environment, limits } from "./environment.ts";
import { removeOrphanedPod } from "./orphans.ts";
import { loseNetwork, type Recovered } from "./recovery.ts";
import { killProcesses } from "./remains.ts";
import type { Sandbox } from "./sandbox.ts";
import { remainsOf, rollBackStart, stopSandbox } from "./sandbox-stop.ts";

/** Pods in parallel. After a reboot there may be hundreds, each with CNI plugins that may hang. */
const atOnce = 4;

/** Notified about what was removed permanently, and what was not. */
export interface Model {
  forgetSandbox(sandbox: Sandbox): void;
  forgetContainer(container: Container): void;
  rollbackFailed(sandbox: Sandbox): void;
}

/** Never rejects. Each failure is logged, and what is left of a pod is in its leftovers. */
export async function tidy(
  env: Environment,
  { sandboxes, orphans, inspections }: Recovered,
  model: Model,
  signal: AbortSignal,
): Promise<void> {
  const found = [...sandboxes.values()];
  const attempt = async (what: string, work: () => Promise<void>): Promise<void> => {
    if (signal.aborted) return;
    await trackWork("tidying", () => what, work).catch((error: unknown) =>
      env.log("warn", `${what} failed: ${String(error)}`),
    );
  };

  await attempt("recovering checkpoints", async () => {
    await recoverCheckpoints(
      env,
      found.flatMap(({ containers }) => [...containers.values()]),
    );
  });
  const moved = moveMonitors(env, found, signal);
  // Kill the processes of pods whose monitor died first: they must not wait for the plugins of other pods.
  const headless = found.filter(({ life, monitor }) => life === "stopping" && monitor === undefined);
  const killed = Promise.all(
    headless.map(async (sandbox) => {
      await attempt(`killing the processes of pod sandbox ${sandbox.id}`, () => killProcesses(env, remainsOf(sandbox)));
    }),
  );
  await eachOf(found, async (sandbox) => {
    await attempt(`cleaning up pod sandbox ${sandbox.id}`, async () => {
      const missing = await inspections.get(sandbox);
      if (missing !== undefined && sandbox.ready) await loseNetwork(env, sandbox, missing);
      if (!isUnfinished(sandbox)) return;
      const object = `pod sandbox ${sandbox.id}`;
      await sandbox.queue.run(object, "cleanup", signal, limits.queue, async () => {
        await finish(env, sandbox, model);
      });
    });
  });
  await killed;
  await eachOf(orphans.podDirectories, async (directory) => {
    await attempt(`removing ${directory}`, async () => await removeOrphanedPod(env, directory));
  });
  for (const path of orphans.bundles) await attempt(`removing ${path}`, () => env.host.removeTree(path));
  for (const id of orphans.snapshots) await attempt(`removing layer ${id}`, () => env.images.removeSnapshot(id));
  for (const id of orphans.records) await attempt(`removing record ${id}`, () => env.records.remove(id));
  await moved;
}

async function moveMonitors(env: Environment, sandboxes: readonly Sandbox[], signal: AbortSignal): Promise<void> {
  for (const sandbox of sandboxes.filter((one) => one.ready)) {
    if (!signal.aborted) await leaveDaemonUnitLater(env, sandbox);
  }
}

function isUnfinished({ life, containers }: Sandbox): boolean {
  return life === "starting" || life === "stopping" || containers.values().some(({ removing }) => removing);
}

/** Runs in the pod's queue, so checks the state again: a request may have finished the work meanwhile. */
async function finish(env: Environment, sandbox: Sandbox, model: Model): Promise<void> {
  if (sandbox.life === "starting") return await rollBack(env, sandbox, model);
  if (sandbox.life === "stopping") await stopSandbox(env, sandbox);
  for (const container of [...sandbox.containers.values()].filter(({ removing }) => removing)) {
    await removeContainer(env, container);
    model.forgetContainer(container);
  }
}

async function rollBack(env: Environment, sandbox: Sandbox, model: Model): Promise<void> {
  let isGone = false;
  try {
    await rollBackStart(env, sandbox);
    if (sandbox.leftovers.length > 0) return;
    await env.records.remove(sandbox.id);
    isGone = true;
  } finally {
    if (isGone) model.forgetSandbox(sandbox);
    else model.rollbackFailed(sandbox);
  }
}

async function eachOf<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const waiting = items.values();
  const inTurn = async (): Promise<void> => {
    for (const item of waiting) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, inTurn));
}
