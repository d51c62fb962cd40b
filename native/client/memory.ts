// Gives memory back after work that took much of it: an idle daemon collects no garbage, and the C library keeps what
// was freed.

import type { Host } from "./host.ts";

/** The pause that a collection makes (some 20 ms) is for a quiet moment. */
const quietMs = 1_000;

export class MemoryReturn {
  readonly #host: Pick<Host, "trimHeap">;
  #timer: NodeJS.Timeout | undefined;

  constructor(host: Pick<Host, "trimHeap">) {
    this.#host = host;
  }

  /** Much has become garbage: once nothing more does for a while, it is given back. */
  soon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#now(), quietMs);
    this.#timer.unref();
  }

  #now(): void {
    // There under --expose-gc (cri/keelson).
    globalThis.gc?.();
    this.#host.trimHeap();
  }
}
