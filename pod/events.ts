// Events of containers and sandboxes, from whoever causes them to whoever listens.

import type { PodEvent } from "./types.ts";

const maxBehind = 1000;

interface Reader {
  readonly queue: PodEvent[];
  wake: () => void;
}

/** Each reader has a queue of its own; one that is too slow loses its oldest events and delays nobody. */
export class EventHub {
  readonly #readers = new Set<Reader>();
  #dropped = 0;

  /** Events lost by slow readers since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  publish(event: PodEvent): void {
    for (const reader of this.#readers) {
      if (reader.queue.length === maxBehind) {
        reader.queue.shift();
        this.#dropped += 1;
      }
      reader.queue.push(event);
      reader.wake();
    }
  }

  /** Subscribes at once, not at the first `next`, so that nothing published after the call is missed. */
  subscribe(signal: AbortSignal): AsyncIterable<PodEvent> {
    const reader: Reader = { queue: [], wake: () => undefined };
    this.#readers.add(reader);
    const leave = () => {
      this.#readers.delete(reader);
      reader.wake();
    };
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave, { once: true });
    return { [Symbol.asyncIterator]: () => this.#read(reader, signal, leave) };
  }

  async *#read(reader: Reader, signal: AbortSignal, leave: () => void): AsyncGenerator<PodEvent, void, undefined> {
    try {
      while (!signal.aborted) {
        const event = reader.queue.shift();
        if (event !== undefined) {
          yield event;
          continue;
        }
        await new Promise<void>((resolve) => {
          reader.wake = resolve;
          if (signal.aborted || reader.queue.length > 0) resolve();
        });
      }
    } finally {
      signal.removeEventListener("abort", leave);
      leave();
    }
  }
}
