// Order among the network's tasks: one at a time for each sandbox (CNI forbids operations on the same container
// side by side), and a few at a time of what is done in the background.

import { whileInHand } from "../native/index.ts";

export interface Turns {
  /** Runs the task after all earlier ones of this sandbox; settles as the task does. */
  take<Result>(sandboxId: string, task: () => Promise<Result>): Promise<Result>;
  /** Resolves when no task is left. */
  idle(): Promise<void>;
}

export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>();
  return {
    take(sandboxId, task) {
      const work = () => whileInHand("turn", () => `network of pod sandbox ${sandboxId} is at work`, task);
      const turn = (last.get(sandboxId) ?? Promise.resolve()).then(work, work);
      last.set(sandboxId, turn);
      const leave = (): void => {
        if (last.get(sandboxId) === turn) last.delete(sandboxId);
      };
      turn.then(leave, leave);
      return turn;
    },
    async idle() {
      while (last.size > 0) await Promise.allSettled(last.values());
    },
  };
}

/** Runs at most `size` tasks at once, the others after them in the order they came. */
export function createSlots(size: number): <Result>(task: () => Promise<Result>) => Promise<Result> {
  let free = size;
  const waiting: (() => void)[] = [];
  return async (task) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await task();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
    }
  };
}
