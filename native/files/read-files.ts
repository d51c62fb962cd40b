// Many small files read in one task of the thread pool, with one descriptor: those are scarce when a daemon starts over
// after it ran out of them.

import { readFile } from "node:fs/promises";
import { ownHost } from "../client/host.ts";

/** Longer ones are read by themselves. */
const usualLimit = 1 << 20;

export type FileRead = { readonly bytes: Buffer } | { readonly error: unknown };

/** What each file holds, or why it cannot be read. */
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
