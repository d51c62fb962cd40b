// One-time tokens of streaming URLs, valid until used or for a minute.

import { randomBytes } from "node:crypto";
import { criErrors } from "../errors.ts";

const lifeMs = 60_000;
const maxWaiting = 1000;

export class Tokens<Target> {
  readonly #waiting = new Map<string, { readonly target: Target; readonly until: number }>();
  readonly #now: () => number;

  /** `now`: milliseconds of any monotonic clock. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Returns a token of 192 random bits. Throws ResourceExhausted if a thousand are already waiting. */
  issue(target: Target): string {
    this.#dropExpired();
    if (this.#waiting.size >= maxWaiting) throw criErrors.tooManyStreams({ limit: maxWaiting });
    const token = randomBytes(24).toString("base64url");
    this.#waiting.set(token, { target, until: this.#now() + lifeMs });
    return token;
  }

  /** Returns the target once; undefined for an unknown, used or expired token. */
  redeem(token: string): Target | undefined {
    const entry = this.#waiting.get(token);
    this.#waiting.delete(token);
    return entry !== undefined && this.#now() < entry.until ? entry.target : undefined;
  }

  /** Tokens are in order of issue, so the expired ones come first. */
  #dropExpired(): void {
    for (const [token, { until }] of this.#waiting) {
      if (until > this.#now()) return;
      this.#waiting.delete(token);
    }
  }
}
