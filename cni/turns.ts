// Serializes the network's tasks: one at a time for each sandbox (CNI forbids concurrent operations on the same
// container), and GC while no other task runs.

import { isDoneWithin, Slots, trackWork } from "../native/index.ts";

export interface Turns {
  /** Runs the task after all earlier ones of this sandbox; settles as the task does. */
  take<Result>(sandboxId: string, task: () => Promise<Result>): Promise<Result>;
  /** Resolves when no task is left. */
  idle(): Promise<void>;
  /**
   * Runs the task when no other is running, and blocks those that arrive meanwhile. False if there is no such moment
   * within the time: until then all others are admitted, since one that hangs must not block the node's pods.
   */
  alone(task: () => Promise<void>, withinMs: number): Promise<boolean>;
}

export function createTurns(): Turns {
  const queues = new Map<string, Slots>();
  let sole: Promise<void> | undefined;
  const idle = async (): Promise<void> => {
    while (queues.size > 0) await Promise.all([...queues.values()].map((queue) => queue.untilIdle()));
  };
  return {
    async take(sandboxId, task) {
      while (sole !== undefined) await sole;
      const queue = queues.get(sandboxId) ?? new Slots(1);
      queues.set(sandboxId, queue);
      try {
        return await queue.run(() =>
          trackWork("turn", () => `network operation of pod sandbox ${sandboxId} is running`, task),
        );
      } finally {
        if (queue.idle) queues.delete(sandboxId);
      }
    },
    idle,
    async alone(task, withinMs) {
      const until = performance.now() + withinMs;
      while (queues.size > 0 || sole !== undefined) {
        const others = sole ?? idle();
        if (!(await isDoneWithin(others, until - performance.now()))) return false;
      }
      const done = Promise.withResolvers<void>();
      sole = done.promise;
      try {
        await task();
      } finally {
        sole = undefined;
        done.resolve();
      }
      return true;
    },
  };
}
