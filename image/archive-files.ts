// The files of an image archive, by name: out of a tar (gzipped or not) or out of a directory.

import { constants, createReadStream, createWriteStream } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import path from "node:path";
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { KeelsonError } from "../native/index.ts";
import { errors } from "./errors.ts";
import { indexTar, MalformedTar, type TarMember } from "./tar-index.ts";

export interface ArchiveFiles {
  /** Bytes, or undefined when there is no such regular file. */
  size(name: string): Promise<number | undefined>;
  /** The content from `start` to before `end`, streamed. Ask only for files that `size` knows. */
  stream(name: string, start: number, end: number): Promise<Readable>;
  close(): Promise<void>;
}

/** Bytes that an archive may inflate to. */
const inflatedLimit = 256 * 1024 ** 3;
const chunkSize = 256 * 1024;

/** Opens an archive. A gzipped one is inflated into `scratch` first, since it cannot be read out of order. */
export async function openArchive(file: string, scratch: string, signal: AbortSignal): Promise<ArchiveFiles> {
  const refuse = (problem: string, cause?: unknown) => errors.badArchive({ file, problem }, cause);
  try {
    const info = await stat(file);
    if (info.isDirectory()) return new DirectoryFiles(file);
    if (!info.isFile()) throw refuse("it is neither a file nor a directory");
    const tar = (await isGzip(file)) ? await inflate(file, path.join(scratch, "archive.tar"), signal) : file;
    return await TarFiles.open(tar);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof MalformedTar) throw refuse(`it is not a whole tar file: ${error.message}`, error);
    if (error instanceof KeelsonError) throw error;
    if (error instanceof Error && "code" in error) throw refuse(error.message, error);
    throw error;
  }
}

class TarFiles implements ArchiveFiles {
  readonly #handle: FileHandle;
  readonly #members: ReadonlyMap<string, TarMember>;

  private constructor(handle: FileHandle, members: ReadonlyMap<string, TarMember>) {
    this.#handle = handle;
    this.#members = members;
  }

  static async open(file: string): Promise<TarFiles> {
    const handle = await open(file, "r");
    try {
      return new TarFiles(handle, await indexTar(handle));
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async size(name: string): Promise<number | undefined> {
    return this.#file(name)?.size;
  }

  async stream(name: string, start: number, end: number): Promise<Readable> {
    const offset = this.#file(name)?.offset ?? 0;
    return this.#handle.createReadStream({
      start: offset + start,
      end: offset + end - 1,
      autoClose: false,
      highWaterMark: chunkSize,
    });
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  /** docker save links equal layers to one another: one step inside the archive is followed. */
  #file(name: string): TarMember | undefined {
    const found = this.#members.get(name);
    const member = found?.kind === "link" ? this.#members.get(found.target) : found;
    return member?.kind === "file" ? member : undefined;
  }
}

class DirectoryFiles implements ArchiveFiles {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  async size(name: string): Promise<number | undefined> {
    try {
      const handle = await this.#open(name);
      try {
        const info = await handle.stat();
        return info.isFile() ? info.size : undefined;
      } finally {
        await handle.close();
      }
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : "";
      if (code === "ENOENT" || code === "ELOOP" || code === "ENOTDIR" || code === "ENXIO") return undefined;
      throw error;
    }
  }

  async stream(name: string, start: number, end: number): Promise<Readable> {
    const handle = await this.#open(name);
    return handle.createReadStream({ start, end: end - 1, highWaterMark: chunkSize });
  }

  /** A layout that somebody else wrote must neither lead us to other files of this machine nor block us (a FIFO). */
  #open(name: string): Promise<FileHandle> {
    return open(path.join(this.#root, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  }

  async close(): Promise<void> {}
}

async function isGzip(file: string): Promise<boolean> {
  const handle = await open(file, "r");
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(2), 0, 2, 0);
    return bytesRead === 2 && buffer.readUInt16BE() === 0x1f8b;
  } finally {
    await handle.close();
  }
}

async function inflate(file: string, to: string, signal: AbortSignal): Promise<string> {
  let total = 0;
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      total += chunk.length;
      const isOver = total > inflatedLimit;
      done(isOver ? errors.tooLarge({ object: `The archive ${file}, inflated,`, limit: inflatedLimit }) : null, chunk);
    },
  });
  const output = createWriteStream(to, { flags: "wx", mode: 0o600 });
  await pipeline(createReadStream(file), createGunzip({ chunkSize }), bounded, output, { signal });
  return to;
}
