// Creations by key: a retried create joins the one in progress and gets its result, even if the first caller gave up.

import { SingleFlight, trackWork } from "../native/index.ts";
import { podErrors } from "./errors.ts";

export class Creations<T> {
  readonly #flights: SingleFlight<T>;

  /** `onUnclaimed` gets a result that no caller is waiting for any more. */
  constructor(onUnclaimed: (result: T) => void) {
    this.#flights = new SingleFlight("finish", onUnclaimed);
  }

  async run(key: string, object: string, step: string, signal: AbortSignal, start: () => Promise<T>): Promise<T> {
    const describe = () => `${step} of ${object} (callers: ${this.#flights.callers(key)})`;
    return await this.#flights.join(
      key,
      signal,
      () => trackWork("start", describe, start),
      () => podErrors.callerGone({ object, step }),
    );
  }

  isInProgress(key: string): boolean {
    return this.#flights.has(key);
  }
}
