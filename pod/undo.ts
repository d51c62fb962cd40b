// The undo stack: a request that creates things is a list of steps, each with its undo.

import { messageOf, withTimeLimit } from "../native/index.ts";

/** A step that could not be undone, and why. */
export interface Leftover {
  readonly step: string;
  readonly reason: string;
}

interface Undo {
  readonly step: string;
  readonly run: () => Promise<void>;
}

/** Undos run in reverse order, each with its own time limit, even if the caller has given up. */
export class UndoStack {
  readonly #undos: Undo[] = [];
  readonly #limitMs: number;

  /** `limitMs`: how long each undo may take. */
  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  push(step: string, run: () => Promise<void>): void {
    this.#undos.push({ step, run });
  }

  /** Undoes all steps and returns those that failed; never rejects. */
  async unwind(): Promise<Leftover[]> {
    const leftovers: Leftover[] = [];
    for (let undo = this.#undos.pop(); undo !== undefined; undo = this.#undos.pop()) {
      try {
        await withTimeLimit(undo.run(), this.#limitMs, () => new Error(`timed out after ${this.#limitMs} ms`));
      } catch (error) {
        leftovers.push({ step: undo.step, reason: messageOf(error) });
      }
    }
    return leftovers;
  }
}
