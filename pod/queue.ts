// A pod's queue: what changes a pod runs one after the other; no other pod waits for it.

import { inHand } from "../native/index.ts";
import { podErrors } from "./errors.ts";

export class PodQueue {
  #tail: Promise<void> = Promise.resolve();
  #current = "";
  #waiting = 0;

  /**
   * Runs `work` when all earlier ones are done. A caller that waits longer than `waitMs`
   * (or whose signal aborts) leaves the queue with an error and its work never starts.
   */
  async run<T>(object: string, step: string, signal: AbortSignal, waitMs: number, work: () => Promise<T>): Promise<T> {
    const before = this.#tail;
    let release: () => void = () => undefined;
    const turn = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.#tail = before.then(() => turn);
    this.#waiting += 1;
    let mine = false;
    const over = inHand("turn", () => {
      const state = mine ? "is at work" : `waits in the queue, where it is the turn of: ${this.#current || "nobody"}`;
      return `${step} of ${object} ${state}`;
    });
    try {
      await this.#myTurn(before, object, step, signal, waitMs);
      this.#current = step;
      mine = true;
      try {
        return await work();
      } finally {
        this.#current = "";
      }
    } finally {
      this.#waiting -= 1;
      over();
      release();
    }
  }

  /** The step that has its turn now; empty for none. */
  get current(): string {
    return this.#current;
  }

  get idle(): boolean {
    return this.#waiting === 0;
  }

  async #myTurn(
    before: Promise<void>,
    object: string,
    step: string,
    signal: AbortSignal,
    waitMs: number,
  ): Promise<void> {
    signal.throwIfAborted();
    let leave: () => void = () => undefined;
    const gone = new Promise<never>((_, reject) => {
      const timer = setTimeout(() => reject(podErrors.busy({ object, step: this.#current || "none" })), waitMs);
      const onAbort = () => reject(podErrors.callerGone({ object, step }));
      signal.addEventListener("abort", onAbort, { once: true });
      leave = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
      };
    });
    try {
      await Promise.race([before, gone]);
    } finally {
      leave();
    }
  }
}
