// The daemon's memory budget for the outputs of all ExecSync calls together.
//
// A call's first bytes take a small slot, which is enough for probes; with more output it takes one of a few large
// slots. A slot covers the maximum that a call of its size can hold, so a call with a slot never waits for more of the
// same size, and waiting calls cannot deadlock. A slot is released when the client has the answer: until then the
// output exists in several copies.

import { type OutputRoom, Slots, TimeLimit, trackWork } from "../native/index.ts";
import { podErrors } from "./errors.ts";

/** The capacity of a small slot. */
const smallBytes = 64 << 10;
/** 32 MiB in all. */
const smallPlaces = 512;
/** 16 MiB each, and up to four times that while an answer is assembled. */
const largePlaces = 3;
/** How long a call waits for a slot. Its process blocks meanwhile, because nobody reads its output. */
const waitMs = 10_000;

export interface BudgetedRoom extends OutputRoom {
  /** Releases the slots: once per call, whether it succeeded or failed. */
  leave(): void;
}

export class OutputBudget {
  readonly #small = new Slots(smallPlaces);
  readonly #large = new Slots(largePlaces);
  readonly #onLargeGone: () => void;

  /** `onLargeGone`: called when a large output was released and its memory is garbage. */
  constructor(onLargeGone: () => void) {
    this.#onLargeGone = onLargeGone;
  }

  /** The room for one call in that container. */
  room(container: string): BudgetedRoom {
    const held: Slots[] = [];
    let waiting = false;
    let left = false;
    const noRoom = () => podErrors.outputBudget({ container, seconds: waitMs / 1000, limit: largePlaces });
    const take = (places: Slots): Promise<void> | undefined => {
      if (places.tryTake()) {
        held.push(places);
        return undefined;
      }
      waiting = true;
      const wait = trackWork(
        "output",
        () => `output of container ${container} waits for room in the output budget`,
        async () => {
          using patience = new TimeLimit(waitMs, noRoom);
          await places.take(patience.signal);
        },
      );
      return wait.then(() => {
        waiting = false;
        if (left) places.release();
        else held.push(places);
      });
    };
    return {
      hold: (bytes) => {
        if (waiting || left) return undefined;
        if (held.length === 0) return take(this.#small);
        return bytes > smallBytes && !held.includes(this.#large) ? take(this.#large) : undefined;
      },
      leave: () => {
        if (left) return;
        left = true;
        for (const places of held) places.release();
        if (held.includes(this.#large)) this.#onLargeGone();
      },
    };
  }
}
