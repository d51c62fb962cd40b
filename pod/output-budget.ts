// What the outputs of all ExecSync calls together may take of the daemon's memory.
//
// A call's first bytes take a small place, which a probe never leaves; with more it takes one of few large places. Both
// are for as much as a call of its size can ever hold, so that nobody who has a place waits for more of it, and calls
// that wait block no others for good. A place is given back when the answer is with the client: until then it is held
// in several copies.

import { type OutputRoom, Slots, TimeLimit, trackWork } from "../native/index.ts";
import { podErrors } from "./errors.ts";

/** What fits in a small place. */
const smallBytes = 64 << 10;
/** 32 MiB in all. */
const smallPlaces = 512;
/** Of 16 MiB each, and up to four times that while an answer is put together. */
const largePlaces = 3;
/** How long a call waits for a place. Its process stands still meanwhile: nobody reads its output. */
const waitMs = 10_000;

export interface BudgetedRoom extends OutputRoom {
  /** The output is gone: once, whatever became of the call. */
  leave(): void;
}

export class OutputBudget {
  readonly #small = new Slots(smallPlaces);
  readonly #large = new Slots(largePlaces);
  readonly #onLargeGone: () => void;

  /** `onLargeGone`: called when a large output was given up; its memory is garbage then. */
  constructor(onLargeGone: () => void) {
    this.#onLargeGone = onLargeGone;
  }

  /** For one call in that container. */
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
        () => `container ${container}: waits for room`,
        async () => {
          using patience = new TimeLimit(waitMs, noRoom);
          await places.take(patience.signal);
        },
      );
      return wait.then(() => {
        waiting = false;
        if (left) places.giveBack();
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
        for (const places of held) places.giveBack();
        if (held.includes(this.#large)) this.#onLargeGone();
      },
    };
  }
}
