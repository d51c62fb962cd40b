// Tears network leases down, and retries those whose teardown was incomplete.

import { type Log, messageOf, Slots } from "../native/index.ts";
import { delChain, type End } from "./chain.ts";
import type { FailedLease, Lease, LeaseStore } from "./lease.ts";
import type { Orphans } from "./orphans.ts";
import { isNamespace, type Pins } from "./pins.ts";

export interface TeardownOptions {
  readonly leases: LeaseStore;
  readonly pins: Pins;
  readonly orphans: Orphans;
  readonly binDirs: readonly string[];
  /** Milliseconds for one run of DEL over the chain. */
  readonly budgetMs: number;
  /** Milliseconds until the first retry; it doubles up to the longest. */
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  /**
   * Milliseconds of retry delays in this daemon after which it is not retried again. If wall-clock time counted, a node
   * that was off for a day, or whose clock was set, would get a single attempt.
   */
  readonly giveUpMs: number;
  /** Runs the task when no other task works on this sandbox. */
  readonly inTurn: (sandboxId: string, task: () => Promise<void>) => Promise<void>;
  readonly log: Log;
  /** Shutdown signals: an interrupted teardown leaves its lease as it is. */
  readonly end: End;
}

export interface Teardown {
  /**
   * Runs the DELs that the sandbox's lease owes; a no-op without a lease. Must be called in the sandbox's turn. Never
   * rejects: a failure is recorded in the lease, with the namespace kept, and retried until it succeeds or is given up.
   */
  release(sandboxId: string): Promise<void>;
  /** Schedules the next attempt for a failed lease, for example when the daemon starts. */
  retryLater(sandboxId: string): void;
}

/** Each retry takes a few processes, and plugins may hang: limits how many pile up. */
const retriedAtOnce = 4;

export function createTeardown(options: TeardownOptions): Teardown {
  const { leases, pins, orphans, binDirs, budgetMs, inTurn, log, end } = options;
  const { firstRetryMs, longestRetryMs, giveUpMs } = options;
  const planned = new Map<string, NodeJS.Timeout>();
  const waits = new Map<string, { readonly waitedMs: number; readonly nextMs: number }>();
  const slots = new Slots(retriedAtOnce);

  const release = async (sandboxId: string): Promise<void> => {
    clearTimeout(planned.get(sandboxId));
    planned.delete(sandboxId);
    const lease = leases.get(sandboxId);
    if (lease === undefined || lease.state === "given-up") return;
    const failures = await takeDown(lease);
    if (failures.length === 0) return await done(sandboxId);
    if (end.begun.aborted) return;
    await failed(lease, failures);
  };

  /** Runs the owed DELs once; resolves with the failures, by plugin index. */
  const takeDown = async (lease: Lease): Promise<readonly { readonly index: number; readonly error: unknown }[]> => {
    const { network, owed, target } = lease;
    try {
      await orphans.end(target.containerId);
    } catch (error) {
      return owed.map((index) => ({ index, error }));
    }
    const result = "result" in lease ? lease.result : undefined;
    // An empty CNI_NETNS tells plugins that the namespace no longer exists (spec section 2, DEL).
    const netns = isNamespace(target.netns) ? target.netns : "";
    const chain = { network, binDirs, pluginTimeoutMs: budgetMs, end };
    return await delChain(chain, { ...target, netns }, owed, result, budgetMs);
  };

  const done = async (sandboxId: string): Promise<void> => {
    try {
      await leases.remove(sandboxId);
    } catch (error) {
      log("warn", "network lease not removed, will retry", { sandbox: sandboxId, error: messageOf(error) });
      return retryLater(sandboxId);
    }
    waits.delete(sandboxId);
    await letGo(sandboxId);
    log("info", "network detached", { sandbox: sandboxId });
  };

  const failed = async (
    lease: Lease,
    failures: readonly { readonly index: number; readonly error: unknown }[],
  ): Promise<void> => {
    const { containerId } = lease.target;
    const failedSince = "failedSince" in lease ? lease.failedSince : Date.now();
    const isOver = (waits.get(containerId)?.waitedMs ?? 0) >= giveUpMs;
    const next: FailedLease = {
      network: lease.network,
      target: isOver ? lease.target : await held(lease.target),
      owed: [...new Set(failures.map(({ index }) => index))].sort((left, right) => left - right),
      state: isOver ? "given-up" : "detach-failed",
      lastError: [...new Set(failures.map(({ error }) => messageOf(error)))].join(" "),
      failedSince,
      ...("result" in lease && lease.result !== undefined ? { result: lease.result } : {}),
    };
    // If this fails, the previous lease remains, which owes the same DELs or more.
    await attempt("network lease not updated", containerId, async () => await leases.save(next));
    const facts = { sandbox: containerId, error: next.lastError };
    if (isOver) {
      waits.delete(containerId);
      await letGo(containerId);
      log("warn", "network detach incomplete, giving up; run `keelson check` to see what may be left", facts);
    } else {
      log("warn", "network detach incomplete, will retry", facts);
      retryLater(containerId);
    }
  };

  const held = async (target: Lease["target"]): Promise<Lease["target"]> => {
    let pin: string | undefined;
    await attempt("network namespace not kept", target.containerId, async () => {
      pin = await pins.hold(target.containerId, target.netns);
    });
    return pin === undefined ? target : { ...target, netns: pin };
  };

  const letGo = async (sandboxId: string): Promise<void> => {
    await attempt("network namespace not released", sandboxId, async () => await pins.release(sandboxId));
  };

  const attempt = async (what: string, sandboxId: string, work: () => Promise<void>): Promise<void> => {
    await work().catch((error: unknown) => log("warn", what, { sandbox: sandboxId, error: messageOf(error) }));
  };

  const retryLater = (sandboxId: string): void => {
    if (end.begun.aborted || planned.has(sandboxId)) return;
    const { waitedMs, nextMs } = waits.get(sandboxId) ?? { waitedMs: 0, nextMs: firstRetryMs };
    const delayMs = Math.min(longestRetryMs, nextMs);
    // A delay that another DEL interrupts does not count.
    waits.set(sandboxId, { waitedMs, nextMs: delayMs * 2 });
    const retry = () => {
      waits.set(sandboxId, { waitedMs: waitedMs + delayMs, nextMs: delayMs * 2 });
      void slots.run(() => inTurn(sandboxId, () => release(sandboxId)));
    };
    const timer = setTimeout(retry, delayMs);
    timer.unref();
    planned.set(sandboxId, timer);
  };

  end.begun.addEventListener("abort", () => {
    for (const timer of planned.values()) clearTimeout(timer);
    planned.clear();
  });
  return { release, retryLater };
}
