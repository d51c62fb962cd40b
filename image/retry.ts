// Bounded back-off between tries.

import { setTimeout as sleep } from "node:timers/promises";

export interface RetryPolicy {
  /** Tries in all, at least 1. */
  readonly tries: number;
  /** Milliseconds before the second try; doubled each time. */
  readonly firstDelayMs: number;
  /** What doubling ends at. */
  readonly longestDelayMs: number;
  /** The longest Retry-After that is waited for; who asks for more is not asked again. */
  readonly longestAskedMs: number;
}

/**
 * Waits before try number `next` (the second is 2), never less than `askedMs`, what the other side asked for.
 * Part of the wait is random, so that nodes that failed together do not come back together.
 */
export async function backOff(policy: RetryPolicy, next: number, askedMs: number, signal: AbortSignal): Promise<void> {
  const doubled = Math.min(policy.longestDelayMs, policy.firstDelayMs * 2 ** (next - 2));
  const delay = Math.max(askedMs, doubled * 0.75) + (doubled / 4) * Math.random();
  await sleep(delay, undefined, { signal });
}

/**
 * Milliseconds from `now` that a Retry-After asks for, in seconds or as a date; 0 when it cannot be read or is over.
 * Source: RFC 9110, section 10.2.3.
 */
export function askedDelay(retryAfter: string | undefined, now: number): number {
  const value = retryAfter?.trim() ?? "";
  const delay = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(delay) ? Math.max(0, delay) : 0;
}
