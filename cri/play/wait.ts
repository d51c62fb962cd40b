// Waiting, with a clock that tests can control (setTimeout, Date).

import { longestTimerMs, orAborted } from "../../native/index.ts";

/** Rejects with the signal's reason when it aborts. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timerMs(ms));
  });
  try {
    await orAborted(over, signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Clamps a timer to 24 days: with a longer delay setTimeout would fire at once. */
export function timerMs(ms: number): number {
  return Math.min(Math.max(ms, 0), longestTimerMs);
}

/** A one-time event that can be waited for. */
export class Latch {
  readonly #opened = Promise.withResolvers<void>();
  isOpen = false;

  open(): void {
    this.isOpen = true;
    this.#opened.resolve();
  }

  async wait(signal: AbortSignal): Promise<void> {
    await orAborted(this.#opened.promise, signal);
  }
}
