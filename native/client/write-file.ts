// Files written whole. Node's own errors name no file when writing fails ("ENOSPC: no space left on device, write").

import { writeFile as write } from "node:fs/promises";

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

/** The same error; its message and its `path` say which file. */
export function namingFile(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || "path" in error) return error;
  error.message = `${error.message} '${path}'`;
  return Object.assign(error, { path });
}
