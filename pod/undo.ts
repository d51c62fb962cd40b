// The undo stack: a request that makes things is a list of steps, each with its undo.

import { messageOf, withTimeLimit } from "../native/index.ts";

/** What an undo could not take back, in words. */
export interface Leftover {
  readonly step: string;
  readonly reason: string;
}

interface Undo {
  readonly step: string;
  readonly run: () => Promise<void>;
}

/** Undos run last first, each within its own time limit, whatever became of the caller. */
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

  /** Takes everything back and says what could not be; never rejects. */
  async unwind(): Promise<Leftover[]> {
    const leftovers: Leftover[] = [];
    for (let undo = this.#undos.pop(); undo !== undefined; undo = this.#undos.pop()) {
      try {
        await withTimeLimit(undo.run(), this.#limitMs, () => new Error(`not done within ${this.#limitMs} ms`));
      } catch (error) {
        leftovers.push({ step: undo.step, reason: messageOf(error) });
      }
    }
    return leftovers;
  }
}
