// One task at a time for each sandbox: CNI forbids operations on the same container side by side.

export interface Turns {
  /** Runs the task after all earlier ones of this sandbox; settles as the task does. */
  take<Result>(sandboxId: string, task: () => Promise<Result>): Promise<Result>;
}

export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>();
  return {
    take(sandboxId, task) {
      const turn = (last.get(sandboxId) ?? Promise.resolve()).then(task, task);
      last.set(sandboxId, turn);
      const leave = (): void => {
        if (last.get(sandboxId) === turn) last.delete(sandboxId);
      };
      turn.then(leave, leave);
      return turn;
    },
  };
}
