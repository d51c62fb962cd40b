// Equal work that is asked for several times at once is done once.

interface Flight<Result> {
  readonly result: Promise<Result>;
  readonly controller: AbortController;
  waiters: number;
}

/**
 * Flights by key. Whoever asks while one is in the air joins it. A waiter that gives up leaves the others alone;
 * the last one aborts the flight, and waits until it has undone what it did.
 */
export class SingleFlight<Result> {
  readonly #flights = new Map<string, Flight<Result>>();

  /** Joins or starts. Rejects with the signal's reason when this waiter gives up. */
  async join(key: string, signal: AbortSignal, start: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
    signal.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#start(key, start);
    flight.waiters++;
    const gaveUp = Promise.withResolvers<never>();
    const giveUp = () => gaveUp.reject(signal.reason);
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      return await Promise.race([flight.result, gaveUp.promise]);
    } finally {
      signal.removeEventListener("abort", giveUp);
      flight.waiters--;
      if (flight.waiters === 0) {
        // An aborted flight takes no more passengers, although its undo may still run.
        if (this.#flights.get(key) === flight) this.#flights.delete(key);
        flight.controller.abort(signal.reason);
        await flight.result.catch(() => undefined);
      }
    }
  }

  has(key: string): boolean {
    return this.#flights.has(key);
  }

  #start(key: string, start: (signal: AbortSignal) => Promise<Result>): Flight<Result> {
    const controller = new AbortController();
    const flight = { result: start(controller.signal), controller, waiters: 0 };
    this.#flights.set(key, flight);
    const land = () => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    flight.result.then(land, land);
    return flight;
  }
}
