// Limits how many tasks run at once, first come first served. With one slot this is a queue.

export class Slots {
  readonly #size: number;
  #free: number;
  readonly #waiting = new Set<() => void>();
  readonly #untilIdle: (() => void)[] = [];

  constructor(size: number) {
    this.#size = size;
    this.#free = size;
  }

  /** No slot is taken. */
  get idle(): boolean {
    return this.#free === this.#size;
  }

  /** Takes a slot if one is free, which is never the case while tasks wait. */
  tryTake(): boolean {
    if (this.#free === 0) return false;
    this.#free -= 1;
    return true;
  }

  /** Resolves once a slot is taken. Rejects with the signal's reason if it aborts before that. */
  async take(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.tryTake()) return;
    const turn = Promise.withResolvers<void>();
    const leave = () => {
      this.#waiting.delete(enter);
      turn.reject(signal?.reason);
    };
    const enter = () => {
      signal?.removeEventListener("abort", leave);
      turn.resolve();
    };
    this.#waiting.add(enter);
    signal?.addEventListener("abort", leave, { once: true });
    await turn.promise;
  }

  /** Releases a slot; must be called once for each slot taken. It goes to the longest waiter. */
  release(): void {
    const [next] = this.#waiting;
    if (next !== undefined) {
      this.#waiting.delete(next);
      next();
      return;
    }
    this.#free += 1;
    if (this.idle) for (const resolve of this.#untilIdle.splice(0)) resolve();
  }

  /** Runs a task in a slot. If the signal aborts while it waits, it never starts; once running, it continues. */
  async run<Result>(task: () => Promise<Result>, signal?: AbortSignal): Promise<Result> {
    await this.take(signal);
    try {
      signal?.throwIfAborted();
      return await task();
    } finally {
      this.release();
    }
  }

  /** Resolves when no slot is taken. */
  async untilIdle(): Promise<void> {
    if (!this.idle) await new Promise<void>((resolve) => this.#untilIdle.push(resolve));
  }
}

/** Takes a slot of whichever has one free first; it must be released there. Rejects as `take` does. */
export async function takeAny(all: readonly Slots[], signal: AbortSignal): Promise<Slots> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const taken = Promise.withResolvers<Slots>();
  const enter = (slots: Slots) => {
    if (over.signal.aborted) return slots.release();
    over.abort();
    taken.resolve(slots);
  };
  const leave = (reason: unknown) => {
    over.abort();
    taken.reject(reason);
  };
  for (const slots of all) slots.take(either).then(() => enter(slots), leave);
  return await taken.promise;
}
