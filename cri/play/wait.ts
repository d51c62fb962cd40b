// Waiting, by a clock that tests can turn (setTimeout, Date).

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

/** For a timer: of more than 24 days it takes so many, where setTimeout would be over at once. */
export function timerMs(ms: number): number {
  return Math.min(Math.max(ms, 0), longestTimerMs);
}

/** One thing that happens once, and who waits for it. */
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
