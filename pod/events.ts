// Events of containers and sandboxes, from whoever causes them to whoever listens.

import type { KeelsonError } from "../native/index.ts";
import { podErrors } from "./errors.ts";
import type { PodEvent } from "./types.ts";

/**
 * Events that wait for one reader. Hundreds of pods that start or end at once cause thousands, and in a turn of the event
 * loop, long on a busy node, one is sent.
 */
const maxBehind = 10_000;
/** When a pod is confirmed, in milliseconds after its last event. */
const confirmations = [100, 400, 1600];

interface Reader {
  readonly queue: PodEvent[];
  wake: () => void;
  readonly end: (reason: KeelsonError) => void;
}

/** Each reader has a queue of its own; one that is too slow is ended, so that no reader misses an event unknowingly. */
export class EventHub {
  readonly #readers = new Set<Reader>();
  readonly #confirmations = new Map<string, NodeJS.Timeout>();

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
   * Publishes what `make` says of the pod a few times more, unless another event of it comes first. A kubelet that follows
   * events goes on with a pod only once it has a status from after its own last work on it, and that work is what caused
   * the event: StopPodSandbox is still to be answered when the sandbox's end is told. Without a later event it waits for
   * its own clock, 5 s at each step of a pod's end. Undefined: there is nothing more to say.
   */
  confirm(pod: string, make: (() => PodEvent) | undefined): void {
    clearTimeout(this.#confirmations.get(pod));
    this.#confirmations.delete(pod);
    if (make !== undefined && this.#readers.size > 0) this.#confirmAfter(pod, make, 0, confirmations);
  }

  #confirmAfter(pod: string, make: () => PodEvent, passed: number, [next, ...later]: readonly number[]): void {
    if (next === undefined) return void this.#confirmations.delete(pod);
    const timer = setTimeout(() => {
      this.publish(make());
      this.#confirmAfter(pod, make, next, later);
    }, next - passed);
    this.#confirmations.set(pod, timer.unref());
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
