// A pod's queue: changes to one pod run one after the other; pods do not wait for each other.

import { beginWork, Slots, TimeLimit } from "../native/index.ts";
import { podErrors } from "./errors.ts";

export class PodQueue {
  readonly #turns = new Slots(1);
  #current = "";

  /**
   * Runs `work` when all earlier work is done. A caller that waits longer than `waitMs` (or whose signal aborts) leaves
   * the queue with an error, and its work never starts.
   */
  async run<T>(object: string, step: string, signal: AbortSignal, waitMs: number, work: () => Promise<T>): Promise<T> {
    let mine = false;
    const over = beginWork("turn", () => {
      const state = mine ? "is running" : `waits in the queue for: ${this.#current || "nothing"}`;
      return `${step} of ${object} ${state}`;
    });
    try {
      await this.#takeTurn(object, step, signal, waitMs);
      mine = true;
      this.#current = step;
      try {
        return await work();
      } finally {
        this.#current = "";
        this.#turns.release();
      }
    } finally {
      over();
    }
  }

  /** The step that is running now; empty for none. */
  get current(): string {
    return this.#current;
  }

  get idle(): boolean {
    return this.#turns.idle;
  }

  async #takeTurn(object: string, step: string, signal: AbortSignal, waitMs: number): Promise<void> {
    signal.throwIfAborted();
    if (this.#turns.tryTake()) return;
    using patience = new TimeLimit(waitMs, () => podErrors.busy({ object, step: this.#current || "none" }), signal);
    try {
      await this.#turns.take(patience.signal);
    } catch (error) {
      throw signal.aborted ? podErrors.callerGone({ object, step }) : error;
    }
  }
}
