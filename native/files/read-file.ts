// Files of others read whole, or their beginning, up to a limit.

import { constants } from "node:fs";
import { open } from "node:fs/promises";

/** The file is no regular one, or longer than it may be. */
export class UnfitFile extends Error {}

/** The text of a regular file of at most `limit` bytes. Throws UnfitFile, or the kernel's error. */
export async function readBounded(path: string, limit: number): Promise<string> {
  return (await readBoundedBytes(path, limit)).toString("utf8");
}

/** As `readBounded`, whatever is in it. */
export async function readBoundedBytes(path: string, limit: number): Promise<Buffer> {
  // Not blocking: the open of a FIFO would wait for a writer, in one of the few threads that all files share.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  if (!(await file.stat()).isFile()) throw new UnfitFile("it is not a regular file");
  const chunks: Buffer[] = [];
  // `end` counts, so this is one byte more than there may be.
  for await (const chunk of file.createReadStream({ start: 0, end: limit, autoClose: false })) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  if (bytes.length > limit) throw new UnfitFile(`it is longer than ${limit} bytes`);
  return bytes;
}

/** What the file begins with: of /proc, where a process may have made its command line or environment as long as it likes. */
export async function readStart(path: string, bytes: number): Promise<Buffer> {
  await using file = await open(path);
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(bytes), 0, bytes, 0);
  return buffer.subarray(0, bytesRead);
}
