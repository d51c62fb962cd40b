// Single flight: a retried create with the same key joins the work in progress and gets its result.

import { inHand } from "../native/index.ts";
import { podErrors } from "./errors.ts";

interface Flight<T> {
  readonly work: Promise<T>;
  callers: number;
}

/**
 * The work is the key's, not the caller's: a caller that gives up leaves, the work goes on.
 * `onUnclaimed` gets a result that no caller waited for any more.
 */
export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>();
  readonly #onUnclaimed: (result: T) => void;

  constructor(onUnclaimed: (result: T) => void) {
    this.#onUnclaimed = onUnclaimed;
  }

  async run(key: string, object: string, step: string, signal: AbortSignal, start: () => Promise<T>): Promise<T> {
    const flight = this.#flights.get(key) ?? this.#depart(key, `${step} of ${object}`, start);
    flight.callers += 1;
    try {
      return await untilAborted(flight.work, signal, () => podErrors.callerGone({ object, step }));
    } finally {
      flight.callers -= 1;
    }
  }

  isFlying(key: string): boolean {
    return this.#flights.has(key);
  }

  #depart(key: string, what: string, start: () => Promise<T>): Flight<T> {
    const over = inHand("start", () => `${what}, for ${flight.callers} callers`);
    const work = start().finally(over);
    const flight: Flight<T> = { work, callers: 0 };
    this.#flights.set(key, flight);
    work.then(
      (result) => {
        this.#flights.delete(key);
        if (flight.callers === 0) this.#onUnclaimed(result);
      },
      () => this.#flights.delete(key),
    );
    return flight;
  }
}

/** The work goes on when its caller is gone. */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal, gone: () => Error): Promise<T> {
  // Nobody may be there any more to hear of its failure.
  work.catch(() => undefined);
  if (signal.aborted) throw gone();
  let leave: () => void = () => undefined;
  const abort = new Promise<never>((_, reject) => {
    const onAbort = () => reject(gone());
    signal.addEventListener("abort", onAbort, { once: true });
    leave = () => signal.removeEventListener("abort", onAbort);
  });
  try {
    return await Promise.race([work, abort]);
  } finally {
    leave();
  }
}
