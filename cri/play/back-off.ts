// How long a kubelet waits before it does again what has failed: 10 s, doubled each time up to 5 minutes, and from the
// beginning when 10 minutes lie between a try and the next failure.

const firstMs = 10_000;
const longestMs = 300_000;
const forgottenMs = 600_000;

export class BackOff {
  #delayMs = 0;
  #lastTry = 0;

  /** Milliseconds to wait after a failure at `failedAt`. The first try again comes at once. */
  after(failedAt: number, now: number): number {
    if (this.#delayMs === 0 || failedAt - this.#lastTry > forgottenMs) return 0;
    return Math.max(failedAt + this.#delayMs - now, 0);
  }

  /** A try is made. */
  tried(failedAt: number, now: number): void {
    const isFirst = this.#delayMs === 0 || failedAt - this.#lastTry > forgottenMs;
    this.#delayMs = isFirst ? firstMs : Math.min(this.#delayMs * 2, longestMs);
    this.#lastTry = now;
  }
}
