// Reads many small files in one thread pool task, using one descriptor at a time: descriptors are scarce when a daemon
// restarts after it ran out of them.

import { readFile } from "node:fs/promises";
import { ownHost } from "../client/host.ts";

/** Longer files are read separately. */
const usualLimit = 1 << 20;

export type FileRead = { readonly bytes: Buffer } | { readonly error: unknown };

/** The content of each file, or why it cannot be read. */
export async function readFiles(paths: readonly string[]): Promise<FileRead[]> {
  const contents = await ownHost().readFiles(paths, usualLimit);
  const files: FileRead[] = [];
  for (const [index, path] of paths.entries()) {
    const bytes = contents[index];
    if (bytes) files.push({ bytes });
    else
      files.push(
        await readFile(path).then(
          (read) => ({ bytes: read }),
          (error: unknown) => ({ error }),
        ),
      );
  }
  return files;
}
