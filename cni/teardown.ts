// Takes network leases down, and keeps at it with those that could not be taken down whole.

import { statfs } from "node:fs/promises";
import { delChain } from "./chain.ts";
import { sentenceOf } from "./errors.ts";
import type { Lease, LeaseStore } from "./lease.ts";
import type { Log } from "./types.ts";

export interface TeardownOptions {
  readonly leases: LeaseStore;
  readonly binDirs: readonly string[];
  /** Milliseconds for one pass over the chain. */
  readonly budgetMs: number;
  /** Milliseconds until the first retry; it doubles up to the longest. */
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  /** Runs the task when no other one works on this sandbox. */
  readonly inTurn: (sandboxId: string, task: () => Promise<void>) => Promise<void>;
  readonly log: Log;
}

export interface Teardown {
  /**
   * DEL of what the sandbox's lease owes; without a lease nothing. Never rejects: what failed is in
   * the lease, and is retried until done. To be called in the sandbox's turn.
   */
  release(sandboxId: string): Promise<void>;
  /** Plans the next try for a lease that failed, as after a start of the daemon. */
  retryLater(sandboxId: string): void;
  /** Plans no more retries. */
  close(): void;
}

export function createTeardown(options: TeardownOptions): Teardown {
  const { leases, binDirs, budgetMs, firstRetryMs, longestRetryMs, inTurn, log } = options;
  const planned = new Map<string, NodeJS.Timeout>();
  const delays = new Map<string, number>();
  let closed = false;

  const release = async (sandboxId: string): Promise<void> => {
    clearTimeout(planned.get(sandboxId));
    planned.delete(sandboxId);
    const lease = leases.get(sandboxId);
    if (lease === undefined) return;
    const failed = await takeDown(lease, binDirs, budgetMs);
    try {
      if (failed === undefined) await leases.remove(sandboxId);
      else await leases.save(failed);
    } catch (error) {
      // The lease on disk is the older one: it owes more, never less.
      log("warn", "network lease not updated", { sandbox: sandboxId, error: sentenceOf(error) });
    }
    if (failed === undefined) {
      delays.delete(sandboxId);
      log("info", "network detached", { sandbox: sandboxId });
    } else {
      log("warn", "network not detached whole, to be retried", { sandbox: sandboxId, error: failed.lastError });
      retryLater(sandboxId);
    }
  };

  const retryLater = (sandboxId: string): void => {
    if (closed || planned.has(sandboxId)) return;
    const delayMs = Math.min(longestRetryMs, delays.get(sandboxId) ?? firstRetryMs);
    delays.set(sandboxId, delayMs * 2);
    const timer = setTimeout(() => void inTurn(sandboxId, () => release(sandboxId)), delayMs);
    timer.unref();
    planned.set(sandboxId, timer);
  };

  return {
    release,
    retryLater,
    close: () => {
      closed = true;
      for (const timer of planned.values()) clearTimeout(timer);
      planned.clear();
    },
  };
}

type FailedLease = Extract<Lease, { state: "detach-failed" }>;

/** One pass of DEL. The lease of what is still owed, or undefined when nothing is. */
async function takeDown(lease: Lease, binDirs: readonly string[], budgetMs: number): Promise<FailedLease | undefined> {
  const { network, owed } = lease;
  const result = lease.state === "attaching" ? undefined : lease.result;
  const target = { ...lease.target, netns: await livingNamespace(lease.target.netns) };
  const chain = { network, binDirs, pluginTimeoutMs: budgetMs };
  const failures = await delChain(chain, target, owed, result, budgetMs);
  if (failures.length === 0) return undefined;
  return {
    network,
    target: lease.target,
    owed: failures.map(({ index }) => index).sort((left, right) => left - right),
    state: "detach-failed",
    lastError: failures.map(({ error }) => sentenceOf(error)).join(" "),
    ...(result === undefined ? {} : { result }),
  };
}

const nsfsMagic = 0x6e736673;

/** The path, or empty when no namespace stands there any more: plugins are told so (spec section 2, DEL). */
async function livingNamespace(path: string): Promise<string> {
  try {
    return (await statfs(path)).type === nsfsMagic ? path : "";
  } catch {
    return "";
  }
}
