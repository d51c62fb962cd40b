// Distributes container and sandbox events to their readers.

import type { KeelsonError } from "../native/index.ts";
import { podErrors } from "./errors.ts";
import type { PodEvent } from "./types.ts";

/**
 * The limit of events queued for one reader. Hundreds of pods that start or stop at once cause thousands of events, and
 * only one is sent per event loop turn, which can be long on a busy node.
 */
const maxBehind = 10_000;
/** When confirmations of a pod are sent, in milliseconds after its last event. */
const confirmations = [100, 400, 1600];

interface Reader {
  readonly queue: PodEvent[];
  wake: () => void;
  readonly end: (reason: KeelsonError) => void;
}

/** Each reader has its own queue. A reader that is too slow is closed, so that no reader misses an event silently. */
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
   * Publishes the event from `make` a few more times, unless another event of the pod comes first. An event-driven
   * kubelet (evented PLEG) continues with a pod only after a status newer than its own last work on it, but that work
   * caused the event: the stop event is sent before StopPodSandbox is answered. Without a later event the kubelet waits
   * for its own timer, 5 s at each step of a pod's termination. If `make` is undefined, confirmations stop.
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
   * Subscribes immediately, not at the first `next`, so that nothing published after the call is missed. `end` is
   * called for a reader that is too far behind, which may be waiting for its client rather than for `next`. It gets no
   * more events and must abort `signal`.
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
