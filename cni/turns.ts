// Order among the network's tasks: one at a time for each sandbox (CNI forbids operations on the same container
// side by side).

import { Slots, trackWork } from "../native/index.ts";

export interface Turns {
  /** Runs the task after all earlier ones of this sandbox; settles as the task does. */
  take<Result>(sandboxId: string, task: () => Promise<Result>): Promise<Result>;
  /** Resolves when no task is left. */
  idle(): Promise<void>;
}

export function createTurns(): Turns {
  const queues = new Map<string, Slots>();
  return {
    async take(sandboxId, task) {
      const queue = queues.get(sandboxId) ?? new Slots(1);
      queues.set(sandboxId, queue);
      try {
        return await queue.run(() => trackWork("turn", () => `network of pod sandbox ${sandboxId} is at work`, task));
      } finally {
        if (queue.idle) queues.delete(sandboxId);
      }
    },
    async idle() {
      while (queues.size > 0) await Promise.all([...queues.values()].map((queue) => queue.untilIdle()));
    },
  };
}
