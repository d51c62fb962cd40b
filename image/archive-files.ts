// The files of an image archive, by name: from a tar (optionally compressed) or from a directory.
//
// Bounds: the size a compressed archive may inflate to (`inflatedLimit`), in the thread pool and straight to disk; the
// tar's own bounds are in tar-index.ts. In a directory, only regular files below it are opened, and no links followed.

import { closeSync, constants, createWriteStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { type Host, KeelsonError } from "../native/index.ts";
import { imageErrors } from "./errors.ts";
import { digestOfPart } from "./file-digest.ts";
import { indexTar, MalformedTar, type TarFile, type TarMember } from "./tar-index.ts";
import type { Digest } from "./types.ts";

export interface ArchiveFiles {
  /** Bytes, or undefined when there is no such regular file. */
  size(name: string): Promise<number | undefined>;
  /** Streams the content from `start` up to, but not including, `end`. Only for files that `size` knows. */
  stream(name: string, start: number, end: number): Promise<Readable>;
  /** Digest of the first `size` bytes. Only for files that `size` knows. */
  digest(name: string, size: number, signal: AbortSignal): Promise<Digest>;
  close(): Promise<void>;
}

/** Bytes an archive may inflate to. */
const inflatedLimit = 256 * 1024 ** 3;
const chunkSize = 256 * 1024;

/** Bytes at the start of a file that `compressionOf` inspects. */
export const magicLength = 4;

/** Detected from the magic number of gzip (RFC 1952) or zstd (RFC 8878); undefined for anything else. */
export function compressionOf(start: Buffer): "gzip" | "zstd" | undefined {
  if (start.length >= 2 && start.readUInt16BE() === 0x1f8b) return "gzip";
  return start.length >= 4 && start.readUInt32LE() === 0xfd2fb528 ? "zstd" : undefined;
}

/** Opens an archive. A compressed archive is inflated into `scratch` first, because it has no random access. */
export async function openArchive(
  file: string,
  scratch: string,
  host: Host,
  signal: AbortSignal,
): Promise<ArchiveFiles> {
  const refuse = (problem: string, cause?: unknown) => imageErrors.badArchive({ file, problem }, cause);
  try {
    // Opening a FIFO must not block.
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    return await closeOnFailure(handle, async () => {
      const info = await handle.stat();
      if (info.isDirectory()) return new DirectoryFiles(file, handle, host);
      if (!info.isFile()) throw refuse("it is neither a file nor a directory");
      const inflater = await inflaterFor(handle);
      if (inflater === undefined) return new TarFiles(handle, await indexTar(handle, signal));
      const inflated = await open(await inflate(handle, inflater, file, path.join(scratch, "archive.tar"), signal));
      const files = await closeOnFailure(
        inflated,
        async () => new TarFiles(inflated, await indexTar(inflated, signal)),
      );
      await handle.close();
      return files;
    });
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof MalformedTar) throw refuse(`it is not a valid tar file: ${error.message}`, error);
    if (error instanceof KeelsonError) throw error;
    if (error instanceof Error && "code" in error) throw refuse(error.message, error);
    throw error;
  }
}

async function closeOnFailure(handle: FileHandle, take: () => Promise<ArchiveFiles>): Promise<ArchiveFiles> {
  try {
    return await take();
  } catch (error) {
    await handle.close();
    throw error;
  }
}

class TarFiles implements ArchiveFiles {
  readonly #handle: FileHandle;
  readonly #members: ReadonlyMap<string, TarMember>;

  constructor(handle: FileHandle, members: ReadonlyMap<string, TarMember>) {
    this.#handle = handle;
    this.#members = members;
  }

  async size(name: string): Promise<number | undefined> {
    return this.#file(name)?.size;
  }

  async stream(name: string, start: number, end: number): Promise<Readable> {
    const offset = this.#file(name)?.offset ?? 0;
    return streamOf(pieces(this.#handle, offset + start, offset + end));
  }

  digest(name: string, size: number, signal: AbortSignal): Promise<Digest> {
    const start = this.#file(name)?.offset ?? 0;
    return digestOfPart({ fd: this.#handle.fd, start, end: start + size }, signal);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  /** `docker save` links equal layers to one another, so one link within the archive is followed. */
  #file(name: string): TarFile | undefined {
    const found = this.#members.get(name);
    const member = found?.kind === "link" ? this.#members.get(found.target) : found;
    return member?.kind === "file" ? member : undefined;
  }
}

/** An untrusted layout must neither lead to files outside it nor block the reader. */
class DirectoryFiles implements ArchiveFiles {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #host: Host;

  constructor(directory: string, handle: FileHandle, host: Host) {
    this.#path = directory;
    this.#handle = handle;
    this.#host = host;
  }

  async size(name: string): Promise<number | undefined> {
    await using file = await this.#open(name);
    return (await file?.stat())?.size;
  }

  async stream(name: string, start: number, end: number): Promise<Readable> {
    return streamOf(this.#pieces(name, start, end));
  }

  async digest(name: string, size: number, signal: AbortSignal): Promise<Digest> {
    await using file = await this.#found(name);
    return await digestOfPart({ fd: file.fd, start: 0, end: size }, signal);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  /** Opens the file on the first read, so that a stream that is never read leaves nothing open. */
  async *#pieces(name: string, start: number, end: number): AsyncGenerator<Buffer> {
    await using file = await this.#found(name);
    yield* pieces(file, start, end);
  }

  async #found(name: string): Promise<FileHandle> {
    const file = await this.#open(name);
    if (file === undefined) throw imageErrors.badArchive({ file: this.#path, problem: `its file "${name}" vanished` });
    return file;
  }

  async #open(name: string): Promise<FileHandle | undefined> {
    const fd = await this.#host.openInside(`/proc/self/fd/${this.#handle.fd}`, name);
    if (fd === null) return undefined;
    try {
      return await open(`/proc/self/fd/${fd}`);
    } finally {
      closeSync(fd);
    }
  }
}

/** The bytes from `start` up to `end` (exclusive) or the end of the file. The handle stays open in any case. */
async function* pieces(handle: FileHandle, start: number, end: number): AsyncGenerator<Buffer> {
  for (let at = start; at < end; ) {
    const length = Math.min(chunkSize, end - at);
    const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(length), 0, length, at);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}

function streamOf(bytes: AsyncGenerator<Buffer>): Readable {
  return Readable.from(bytes, { objectMode: false, highWaterMark: chunkSize });
}

async function inflaterFor(handle: FileHandle): Promise<Transform | undefined> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(magicLength), 0, magicLength, 0);
  switch (compressionOf(buffer.subarray(0, bytesRead))) {
    case "gzip":
      return createGunzip({ chunkSize });
    case "zstd":
      return createZstdDecompress({ chunkSize });
    case undefined:
      return undefined;
  }
}

async function inflate(
  handle: FileHandle,
  inflater: Transform,
  file: string,
  to: string,
  signal: AbortSignal,
): Promise<string> {
  let total = 0;
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      total += chunk.length;
      const isOver = total > inflatedLimit;
      done(
        isOver ? imageErrors.tooLarge({ object: `The archive ${file}, inflated,`, limit: inflatedLimit }) : null,
        chunk,
      );
    },
  });
  const output = createWriteStream(to, { flags: "wx", mode: 0o600 });
  const { size } = await handle.stat();
  await pipeline(streamOf(pieces(handle, 0, size)), inflater, bounded, output, { signal });
  return to;
}
