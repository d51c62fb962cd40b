// Files written whole, and replaced.

import { open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { FileStep } from "../client/host.ts";
import { changeFiles } from "./change-files.ts";

/** Makes the file, or empties it and writes it again. The error names it. */
export async function writeFile(
  path: string,
  content: string | Uint8Array,
  options: { readonly mode?: number; readonly isNew?: boolean } = {},
): Promise<void> {
  await changeFiles([{ kind: "file", path, content, ...options }]);
}

/** What is on disk when a file has been replaced, should the power fail then. */
export type Flush =
  /** Anything: what the file is about does not outlive the machine. */
  | "nothing"
  /** The old content or the new one, whole. */
  | "content"
  /** The new content. */
  | "content and name";

/**
 * Replaces a file's content, mode 0600: who reads it finds the old one or the new one, never half, and the old one
 * stands when it fails. The draft is `<path>.new`; two replacements of one path must not overlap.
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

/** The names in a directory, as they are now, survive a power cut. */
export async function flushDirectory(directory: string): Promise<void> {
  await using handle = await open(directory, "r");
  await handle.sync();
}
