// Limits how many layers are fetched and unpacked in parallel: a fixed number for one pull, and always at least one for
// each pull, however long the layers of another pull take.

import { Slots, takeAny } from "../native/index.ts";

export class LayerPlaces {
  readonly #shared: Slots;
  /** One place for each pull. */
  readonly #own = new WeakMap<object, Slots>();

  constructor(ofOnePull: number) {
    this.#shared = new Slots(ofOnePull - 1);
  }

  /** `pull` identifies the pull. Work whose signal aborts before its turn never starts. */
  async run(pull: object, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const own = this.#own.get(pull) ?? new Slots(1);
    this.#own.set(pull, own);
    const slots = await takeAny([own, this.#shared], signal);
    try {
      signal.throwIfAborted();
      await work();
    } finally {
      slots.release();
    }
  }
}
