// A start that failed and could not be taken back whole: its sandbox is listed, not ready, and taken back again later.

import { setTimeout as delay } from "node:timers/promises";
import type { Environment } from "./environment.ts";
import type { Sandbox } from "./sandbox.ts";

/** Milliseconds until the first try; each wait is twice the one before, up to the longest. */
const firstMs = 1_000;
const longestMs = 300_000;
/** As long as cni/ retries a DEL. */
const giveUpMs = 24 * 3600_000;

interface Model {
  /** Not when a client has removed it. */
  isListed(): boolean;
  remove(): Promise<void>;
}

/**
 * Shows the sandbox, so that a client can remove it too, and calls `remove` until that resolves: no client may know of
 * a pod that it never got. Rejects when `signal` aborts.
 */
export async function keepUnmaking(
  env: Environment,
  sandbox: Sandbox,
  model: Model,
  signal: AbortSignal,
): Promise<void> {
  sandbox.visible = true;
  let waitMs = firstMs;
  for (let waited = 0; waited < giveUpMs; waited += waitMs) {
    await delay(waitMs, undefined, { signal, ref: false });
    waitMs = Math.min(2 * waitMs, longestMs);
    if (!model.isListed()) return;
    if (isRetriedByNetwork(env, sandbox)) continue;
    try {
      return await model.remove();
    } catch (error) {
      signal.throwIfAborted();
      env.log("warn", `pod sandbox ${sandbox.id}: its start could not be taken back yet: ${String(error)}`);
    }
  }
}

/** Then cni/ says when the plugins run again. What it has given up is told by `keelson check`, without the sandbox. */
function isRetriedByNetwork(env: Environment, { id }: Sandbox): boolean {
  return env.network.leases().some(({ sandboxId, state }) => sandboxId === id && state !== "given-up");
}
