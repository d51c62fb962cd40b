// A failed start that could not be rolled back completely: its sandbox is listed as not ready, and the rollback is
// retried.

import { setTimeout as delay } from "node:timers/promises";
import type { Environment } from "./environment.ts";
import type { Sandbox } from "./sandbox.ts";

/** Milliseconds until the first retry; each wait is twice the previous one, up to `longestMs`. */
const firstMs = 1_000;
const longestMs = 300_000;
/** As long as cni/ retries a DEL. */
const giveUpMs = 24 * 3600_000;

interface Model {
  /** False once a client has removed it. */
  isListed(): boolean;
  remove(): Promise<void>;
}

/**
 * Lists the sandbox, so that a client can remove it too, and calls `remove` until it resolves, because the client may
 * not know a pod whose start failed. Rejects when `signal` aborts.
 */
export async function keepRollingBack(
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
      env.log("warn", `pod sandbox ${sandbox.id}: its start could not be rolled back yet: ${String(error)}`);
    }
  }
}

/**
 * Then cni/ schedules the retry. A teardown that it has given up is reported by `keelson check`, without the sandbox.
 */
function isRetriedByNetwork(env: Environment, { id }: Sandbox): boolean {
  return env.network.leases().some(({ sandboxId, state }) => sandboxId === id && state !== "given-up");
}
