// Waiting with a time limit in milliseconds. The timers keep the process alive, and are cleared when the wait is over.

import { orAborted } from "./abort.ts";

/** The maximum delay of setTimeout, 24 days; a longer one fires at once. */
export const longestTimerMs = 2 ** 31 - 1;

/**
 * A signal that aborts with `late()` when the time expires, or with the caller's reason if its signal aborts first.
 * Once disposed of, it does neither.
 */
export class TimeLimit implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #caller: AbortSignal | undefined;

  constructor(ms: number, late: () => unknown, caller?: AbortSignal) {
    this.#timer = setTimeout(() => this.#controller.abort(late()), Math.min(ms, longestTimerMs));
    this.#caller = caller;
    if (caller?.aborted) this.#callerGone();
    else caller?.addEventListener("abort", this.#callerGone, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener("abort", this.#callerGone);
  }

  readonly #callerGone = (): void => {
    clearTimeout(this.#timer);
    this.#controller.abort(this.#caller?.reason);
  };
}

/** Settles as the work does, or rejects with `late()` after `ms`; the work continues. */
export async function withTimeLimit<Result>(work: Promise<Result>, ms: number, late: () => unknown): Promise<Result> {
  using limit = new TimeLimit(ms, late);
  return await orAborted(work, limit.signal);
}

/** Whether the work finishes within `ms`; if not, it continues. Rejects if the work fails within that time. */
export async function isDoneWithin(work: Promise<unknown>, ms: number): Promise<boolean> {
  const late = Symbol("late");
  try {
    await withTimeLimit(work, ms, () => late);
    return true;
  } catch (error) {
    if (error === late) return false;
    throw error;
  }
}
