// So many at once, first come first served. With one slot this is a queue: one task after the other.

export class Slots {
  readonly #size: number;
  #free: number;
  readonly #waiting = new Set<() => void>();
  readonly #untilIdle: (() => void)[] = [];

  constructor(size: number) {
    this.#size = size;
    this.#free = size;
  }

  /** Nobody has a slot, nobody waits for one. */
  get idle(): boolean {
    return this.#free === this.#size;
  }

  /** Takes a slot if one is free, which is only so while nobody waits. */
  tryTake(): boolean {
    if (this.#free === 0) return false;
    this.#free -= 1;
    return true;
  }

  /** Resolves with a slot taken. Rejects with the signal's reason when it aborts before that. */
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

  /** Once for each slot taken; it goes to who has waited longest. */
  giveBack(): void {
    const [next] = this.#waiting;
    if (next !== undefined) {
      this.#waiting.delete(next);
      next();
      return;
    }
    this.#free += 1;
    if (this.idle) for (const resolve of this.#untilIdle.splice(0)) resolve();
  }

  /** Runs a task in a slot. One whose signal aborts while it waits never starts; begun, it is not touched. */
  async run<Result>(task: () => Promise<Result>, signal?: AbortSignal): Promise<Result> {
    await this.take(signal);
    try {
      signal?.throwIfAborted();
      return await task();
    } finally {
      this.giveBack();
    }
  }

  /** Resolves when nobody has a slot and nobody waits. */
  async untilIdle(): Promise<void> {
    if (!this.idle) await new Promise<void>((resolve) => this.#untilIdle.push(resolve));
  }
}

/** Takes a slot of the one that has one first, which is to be given back there. Rejects as `take` does. */
export async function takeAny(all: readonly Slots[], signal: AbortSignal): Promise<Slots> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  const taken = Promise.withResolvers<Slots>();
  const enter = (slots: Slots) => {
    if (over.signal.aborted) return slots.giveBack();
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
