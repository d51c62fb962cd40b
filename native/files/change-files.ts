// Directories made and files written, in one task of the thread pool for all of them.

import { type FileStep, ownHost } from "../client/host.ts";
import { asNodeError, HostError } from "../client/host-errors.ts";

/**
 * Takes the steps one after another. Rejects as Node's functions do (`code`, `syscall`, `path`) at the first that fails;
 * what was made before it stays.
 */
export async function changeFiles(steps: readonly FileStep[]): Promise<void> {
  try {
    await ownHost().changeFiles(steps);
  } catch (error) {
    throw error instanceof HostError ? asNodeError(error, error.step, error.object) : error;
  }
}
