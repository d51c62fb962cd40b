// Writes and replaces whole files.

import { open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { FileStep } from "../client/host.ts";
import { changeFiles } from "./change-files.ts";

/** Creates the file, or truncates and rewrites it. The error names it. */
export async function writeFile(
  path: string,
  content: string | Uint8Array,
  options: { readonly mode?: number; readonly isNew?: boolean } = {},
): Promise<void> {
  await changeFiles([{ kind: "file", path, content, ...options }]);
}

/** What a file contains after a power cut that follows its replacement. */
export type Flush =
  /** Anything: what the file describes does not survive a reboot either. */
  | "nothing"
  /** Either the old or the new content, complete. */
  | "content"
  /** The new content. */
  | "content and name";

/**
 * Atomically replaces a file's content, with mode 0600: readers see either the old or the new content, and the old one
 * remains on failure. The temporary file is `<path>.new`; replacements of the same path must not overlap.
 */
export async function replaceFile(path: string, content: string | Uint8Array, flush: Flush): Promise<void> {
  const draft = `${path}.new`;
  const steps: FileStep[] = [
    { kind: "file", path: draft, content, mode: 0o600, isFlushed: flush !== "nothing" },
    { kind: "rename", path: draft, to: path },
  ];
  if (flush === "content and name") steps.push({ kind: "flush", path: dirname(path) });
  try {
    await changeFiles(steps);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined);
    throw error;
  }
}

/** Makes the directory's current entries survive a power cut. */
export async function flushDirectory(directory: string): Promise<void> {
  await using handle = await open(directory, "r");
  await handle.sync();
}
