// Equal work that is asked for several times at once is done once.

import { orAborted } from "./abort.ts";

interface Flight<Result> {
  readonly work: Promise<Result>;
  readonly controller: AbortController;
  callers: number;
}

/**
 * Work by key: whoever asks for it while it is under way joins it. A caller that gives up leaves the others alone.
 * What becomes of the work when the last one gives up is said when the flights are made:
 *
 * - "abort": it belongs to its callers. Its signal aborts, the last caller waits until it has taken itself back, and
 *   whoever asks meanwhile starts it again.
 * - "finish": it belongs to its key. It goes on, a caller that comes before its end gets its result, and a result that
 *   nobody waited for goes to `onUnclaimed`.
 */
export class SingleFlight<Result> {
  readonly #flights = new Map<string, Flight<Result>>();
  readonly #whenAbandoned: "abort" | "finish";
  readonly #onUnclaimed: (result: Result) => void;

  constructor(whenAbandoned: "abort" | "finish", onUnclaimed: (result: Result) => void = () => undefined) {
    this.#whenAbandoned = whenAbandoned;
    this.#onUnclaimed = onUnclaimed;
  }

  /** Joins or starts. A caller whose signal aborts gets `gone()`, the signal's reason unless given. */
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

  /** How many wait for it. */
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

  /** An aborted flight takes no more callers, although it may still be taking itself back. */
  async #abort(key: string, flight: Flight<Result>, reason: unknown): Promise<void> {
    this.#flights.delete(key);
    flight.controller.abort(reason);
    await flight.work.catch(() => undefined);
  }
}
