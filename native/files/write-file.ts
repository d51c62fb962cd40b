// Files written whole, and replaced. Node's own errors name no file when writing fails ("ENOSPC: no space left on
// device, write").

import { open, rename, rm, writeFile as write } from "node:fs/promises";
import { dirname } from "node:path";

/** As Node's, with a path in each error. */
export async function writeFile(
  path: string,
  content: string | Uint8Array,
  options: { readonly mode?: number; readonly flag?: string } = {},
): Promise<void> {
  await write(path, content, options).catch((error: unknown) => {
    throw namingFile(error, path);
  });
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
  try {
    await writeFlushed(draft, content, flush !== "nothing");
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined);
    throw namingFile(error, draft);
  }
  if (flush === "content and name") await flushDirectory(dirname(path));
}

/** The names in a directory, as they are now, survive a power cut. */
export async function flushDirectory(directory: string): Promise<void> {
  await using handle = await open(directory, "r");
  await handle.sync();
}

async function writeFlushed(path: string, content: string | Uint8Array, flushed: boolean): Promise<void> {
  await using file = await open(path, "w", 0o600);
  await file.writeFile(content);
  if (flushed) await file.datasync();
}

/** The same error; its message and its `path` say which file. */
export function namingFile(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || "path" in error) return error;
  error.message = `${error.message} '${path}'`;
  return Object.assign(error, { path });
}
