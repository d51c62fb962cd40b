// Creates directories and writes files, all in one thread pool task.

import { type FileStep, ownHost } from "../client/host.ts";
import { asNodeError, HostError } from "../client/host-errors.ts";

/**
 * Runs the steps in order. Rejects as Node's functions do (`code`, `syscall`, `path`) at the first step that fails;
 * the earlier steps are not undone.
 */
export async function changeFiles(steps: readonly FileStep[]): Promise<void> {
  try {
    await ownHost().changeFiles(steps);
  } catch (error) {
    throw error instanceof HostError ? asNodeError(error, error.step, error.object) : error;
  }
}
