// Bounded back-off between tries.

import { setTimeout as sleep } from "node:timers/promises";

export interface RetryPolicy {
  /** Tries in all, at least 1. */
  readonly tries: number;
  /** Milliseconds before the second try; doubled each time. */
  readonly firstDelayMs: number;
  readonly longestDelayMs: number;
}

/**
 * Waits before try number `next` (the second is 2). `askedMs` is what the other side asked for (Retry-After).
 * A quarter of the wait is random, so that nodes that failed together do not come back together.
 */
export async function backOff(policy: RetryPolicy, next: number, askedMs: number, signal: AbortSignal): Promise<void> {
  const doubled = policy.firstDelayMs * 2 ** (next - 2);
  const delay = Math.min(policy.longestDelayMs, Math.max(doubled, askedMs));
  await sleep(delay * (0.75 + Math.random() / 4), undefined, { signal });
}
