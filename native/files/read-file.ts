// Reads untrusted files, or the start of them, up to a limit.

import { constants } from "node:fs";
import { open } from "node:fs/promises";

/** The file is not a regular file, or exceeds the limit. */
export class UnfitFile extends Error {}

/** The text of a regular file of at most `limit` bytes. Throws UnfitFile, or the kernel's error. */
export async function readBounded(path: string, limit: number): Promise<string> {
  return (await readBoundedBytes(path, limit)).toString("utf8");
}

/** As `readBounded`, but returns the raw bytes. */
export async function readBoundedBytes(path: string, limit: number): Promise<Buffer> {
  // Nonblocking: opening a FIFO would otherwise wait for a writer, on one of the few pool threads that all files share.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  if (!(await file.stat()).isFile()) throw new UnfitFile("it is not a regular file");
  const chunks: Buffer[] = [];
  // `end` is inclusive, so this reads up to one byte more than the limit.
  for await (const chunk of file.createReadStream({ start: 0, end: limit, autoClose: false })) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  if (bytes.length > limit) throw new UnfitFile(`it is longer than ${limit} bytes`);
  return bytes;
}

/** Reads the start of a file in /proc, where a process can make its command line or environment arbitrarily long. */
export async function readStart(path: string, bytes: number): Promise<Buffer> {
  await using file = await open(path);
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(bytes), 0, bytes, 0);
  return buffer.subarray(0, bytesRead);
}
