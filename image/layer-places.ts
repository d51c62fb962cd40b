// How many layers are fetched and unpacked at the same time: of one pull so many, and of each pull at least one, however
// long those of another one take.

import { Slots, takeAny } from "../native/index.ts";

export class LayerPlaces {
  readonly #shared: Slots;
  /** One place for each pull. */
  readonly #own = new WeakMap<object, Slots>();

  constructor(ofOnePull: number) {
    this.#shared = new Slots(ofOnePull - 1);
  }

  /** `pull` is what tells pulls apart. Work whose signal aborts before its turn never begins. */
  async run(pull: object, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const own = this.#own.get(pull) ?? new Slots(1);
    this.#own.set(pull, own);
    const slots = await takeAny([own, this.#shared], signal);
    try {
      signal.throwIfAborted();
      await work();
    } finally {
      slots.giveBack();
    }
  }
}
