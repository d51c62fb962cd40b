// Bounded back-off between tries.

import { setTimeout as sleep } from "node:timers/promises";

export interface RetryPolicy {
  /** Tries in all, at least 1. */
  readonly tries: number;
  /** Milliseconds before the second try; doubled each time. */
  readonly firstDelayMs: number;
  /** Upper limit of the doubling. */
  readonly longestDelayMs: number;
  /** The longest Retry-After that is honoured; a host that asks for more is not retried. */
  readonly longestAskedMs: number;
}

/**
 * Waits before try number `next` (the second is 2), at least the `askedMs` that the server asked for. Part of the wait
 * is random, so that nodes that failed together do not retry together.
 */
export async function backOff(policy: RetryPolicy, next: number, askedMs: number, signal: AbortSignal): Promise<void> {
  const doubled = Math.min(policy.longestDelayMs, policy.firstDelayMs * 2 ** (next - 2));
  const delay = Math.max(askedMs, doubled * 0.75) + (doubled / 4) * Math.random();
  await sleep(delay, undefined, { signal });
}

/**
 * Milliseconds from `now` until the time in Retry-After, in seconds or as a date; 0 when it is invalid or in the past.
 * Source: RFC 9110, section 10.2.3.
 */
export function askedDelay(retryAfter: string | undefined, now: number): number {
  const value = retryAfter?.trim() ?? "";
  const delay = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(delay) ? Math.max(0, delay) : 0;
}
