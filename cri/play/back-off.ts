// The kubelet's back-off before a retry: 10 s, doubled each time up to 5 minutes, and reset if 10 minutes pass between
// an attempt and its failure.

const firstMs = 10_000;
const longestMs = 300_000;
const forgottenMs = 600_000;

export class BackOff {
  #delayMs = 0;
  #lastTry = 0;

  /** Milliseconds to wait after a failure at `failedAt`. The first retry is immediate. */
  after(failedAt: number, now: number): number {
    if (this.#delayMs === 0 || failedAt - this.#lastTry > forgottenMs) return 0;
    return Math.max(failedAt + this.#delayMs - now, 0);
  }

  /** Records a retry. */
  tried(failedAt: number, now: number): void {
    const isFirst = this.#delayMs === 0 || failedAt - this.#lastTry > forgottenMs;
    this.#delayMs = isFirst ? firstMs : Math.min(this.#delayMs * 2, longestMs);
    this.#lastTry = now;
  }
}
