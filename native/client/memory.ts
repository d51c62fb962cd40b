// Gives memory back after work that took much of it: an idle daemon collects no garbage, and the C library keeps what
// was freed.

import type { Host } from "./host.ts";

/** Of buffers that come and go, between two collections of what is young. */
const youngBytes = 8 * 1024 * 1024;
let passedBytes = 0;

/**
 * Tells of a buffer of a stream, soon garbage. V8 sees little of it, as its bytes lie outside the heap: it would let
 * tens of megabytes gather and then collect the whole heap, a pause of some 20 ms where this one takes 0.5.
 */
export function passedBuffer(bytes: number): void {
  passedBytes += bytes;
  if (passedBytes < youngBytes) return;
  passedBytes = 0;
  globalThis.gc?.({ type: "minor" });
}

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
