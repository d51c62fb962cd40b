// Random choices that a seed reproduces: mulberry32, small and good enough to choose moments and actions.

export interface Random {
  /** A number in [0, 1). */
  next(): number;
  /** An integer from `low` to `high`, both inclusive. */
  between(low: number, high: number): number;
  /** True with a probability of `percent`. */
  chance(percent: number): boolean;
  /** One of the items; undefined if there are none. */
  pick<Item>(items: readonly Item[]): Item | undefined;
  /** A separate stream for a concurrent worker, so that the order of the workers does not matter. */
  fork(): Random;
}

export function seeded(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  const between = (low: number, high: number): number => low + Math.floor(next() * (high - low + 1));
  return {
    next,
    between,
    chance: (percent) => next() * 100 < percent,
    pick: (items) => items[Math.floor(next() * items.length)],
    fork: () => seeded(between(0, 0xffffffff)),
  };
}
