// Small files that survive a power cut: old content or new, never half.

import { open, rename, rm } from "node:fs/promises";
import path from "node:path";
import { namingFile } from "../native/index.ts";

/** Replaces a file's content. When it resolves, file and name are on disk (fsync(2) of both). */
export async function writeDurably(file: string, content: string | Buffer): Promise<void> {
  const draft = `${file}.new`;
  try {
    const handle = await open(draft, "w", 0o600);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, file);
  } catch (error) {
    await rm(draft, { force: true });
    throw namingFile(error, draft);
  }
  const directory = await open(path.dirname(file));
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
