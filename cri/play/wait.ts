// Waiting, by a clock that tests can turn (setTimeout, Date).

import { orAborted } from "../../native/index.ts";

/** Rejects with the signal's reason when it aborts. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.max(ms, 0));
  });
  try {
    await orAborted(over, signal);
  } finally {
    clearTimeout(timer);
  }
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
