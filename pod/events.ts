// Events of containers and sandboxes, from whoever causes them to whoever listens.

import type { KeelsonError } from "../native/index.ts";
import { podErrors } from "./errors.ts";
import type { PodEvent } from "./types.ts";

/** Events that wait for one reader. */
const maxBehind = 1000;

interface Reader {
  readonly queue: PodEvent[];
  wake: () => void;
  readonly end: (reason: KeelsonError) => void;
}

/** Each reader has a queue of its own; one that is too slow is ended, so that no reader misses an event unknowingly. */
export class EventHub {
  readonly #readers = new Set<Reader>();

  publish(event: PodEvent): void {
    for (const reader of this.#readers) {
      if (reader.queue.length === maxBehind) {
        this.#readers.delete(reader);
        reader.queue.length = 0;
        reader.end(podErrors.eventsUnread({ limit: maxBehind }));
      } else {
        reader.queue.push(event);
        reader.wake();
      }
    }
  }

  /**
   * Subscribes at once, not at the first `next`, so that nothing published after the call is missed. `end` is called
   * for a reader that is too far behind: it may be waiting for its client, not for `next`; it gets no more events and
   * has to abort `signal`.
   */
  subscribe(signal: AbortSignal, end: (reason: KeelsonError) => void): AsyncIterable<PodEvent> {
    const reader: Reader = { queue: [], wake: () => undefined, end };
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
