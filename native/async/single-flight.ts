// Deduplicates concurrent requests for the same work.

import { orAborted } from "./abort.ts";

interface Flight<Result> {
  readonly work: Promise<Result>;
  readonly controller: AbortController;
  callers: number;
}

/**
 * Work by key: a caller that requests work already in flight joins it. A caller that gives up does not affect the
 * others. The constructor's argument says what happens to the work when the last caller gives up:
 *
 * - "abort": its signal aborts, the last caller waits until the work has rolled back, and a caller that comes meanwhile
 *   starts it again.
 * - "finish": it continues, a caller that comes before it finishes gets its result, and a result that nobody waited for
 *   goes to `onUnclaimed`.
 */
export class SingleFlight<Result> {
  readonly #flights = new Map<string, Flight<Result>>();
  readonly #whenAbandoned: "abort" | "finish";
  readonly #onUnclaimed: (result: Result) => void;

  constructor(whenAbandoned: "abort" | "finish", onUnclaimed: (result: Result) => void = () => undefined) {
    this.#whenAbandoned = whenAbandoned;
    this.#onUnclaimed = onUnclaimed;
  }

  /** Joins or starts the work. Rejects with `gone()`, by default the signal's reason, when the signal aborts. */
  async join(
    key: string,
    signal: AbortSignal,
    start: (signal: AbortSignal) => Promise<Result>,
    gone: () => unknown = () => signal.reason,
  ): Promise<Result> {
    if (signal.aborted) throw gone();
    const flight = this.#flights.get(key) ?? this.#depart(key, start);
    flight.callers += 1;
    try {
      return await orAborted(flight.work, signal, gone);
    } finally {
      flight.callers -= 1;
      const abandoned = flight.callers === 0 && this.#flights.get(key) === flight;
      if (abandoned && this.#whenAbandoned === "abort") await this.#abort(key, flight, signal.reason);
    }
  }

  has(key: string): boolean {
    return this.#flights.has(key);
  }

  /** How many callers wait for it. */
  callers(key: string): number {
    return this.#flights.get(key)?.callers ?? 0;
  }

  #depart(key: string, start: (signal: AbortSignal) => Promise<Result>): Flight<Result> {
    const controller = new AbortController();
    const flight: Flight<Result> = { work: start(controller.signal), controller, callers: 0 };
    this.#flights.set(key, flight);
    const land = () => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    flight.work.then((result) => {
      land();
      if (flight.callers === 0) this.#onUnclaimed(result);
    }, land);
    return flight;
  }

  /** An aborted flight accepts no more callers, although it may still be rolling back. */
  async #abort(key: string, flight: Flight<Result>, reason: unknown): Promise<void> {
    this.#flights.delete(key);
    flight.controller.abort(reason);
    await flight.work.catch(() => undefined);
  }
}
