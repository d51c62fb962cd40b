// Small files that survive a power cut: old content or new, never half.

import { open, rename } from "node:fs/promises";
import path from "node:path";
import { namingFile } from "../native/index.ts";

/** Replaces a file's content. When it resolves, file and name are on disk (fsync(2) of both). */
export async function writeDurably(file: string, content: string | Buffer): Promise<void> {
  const draft = `${file}.new`;
  const handle = await open(draft, "w", 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } catch (error) {
    throw namingFile(error, draft);
  } finally {
    await handle.close();
  }
  await rename(draft, file);
  const directory = await open(path.dirname(file));
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
