// Image archives between the daemon, which takes paths on its host, and what the user names: a file, or - for standard
// input and output.

import { createWriteStream, fstatSync } from "node:fs";
import { type FileHandle, mkdtemp, open, rename, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { firstLine, KeelsonError } from "../../native/index.ts";
import { criErrors } from "../errors.ts";

export interface ArchiveContents {
  /** index.json */
  readonly index: Uint8Array;
  readonly blobs: readonly OpenBlob[];
}

interface Blob {
  readonly digest: string;
  readonly size: number;
  readonly path: string;
}

interface OpenBlob extends Blob {
  readonly handle: FileHandle;
}

export interface ArchiveInput extends AsyncDisposable {
  /** The path for the daemon to open. */
  readonly path: string;
}

/** Called with the number of bytes written so far. */
type Progress = (done: number) => void;

const blockBytes = 512;
const chunkBytes = 1 << 20;
/** The limit of a tar's octal field of 11 digits. */
const octalLimit = 8 ** 11;

/** A file on standard input is read in place; a pipe is spooled to $TMPDIR or /var/tmp. */
export async function archiveInput(file: string, signal: AbortSignal): Promise<ArchiveInput> {
  if (file !== "-") return { path: resolve(file), async [Symbol.asyncDispose]() {} };
  if (process.stdin.isTTY) throw criErrors.terminal({ what: "read from" });
  if (fstatSync(0).isFile()) return { path: `/proc/${process.pid}/fd/0`, async [Symbol.asyncDispose]() {} };
  const place = process.env.TMPDIR ?? "/var/tmp";
  const directory = await mkdtemp(join(place, "keelson-load-")).catch((error: unknown) => {
    throw unwritten(place, error);
  });
  const discard = async () => await rm(directory, { recursive: true, force: true });
  const path = join(directory, "archive");
  try {
    await pipeline(process.stdin, createWriteStream(path, { flags: "wx", mode: 0o600 }), { signal });
  } catch (error) {
    await discard();
    throw signal.aborted ? error : unwritten(path, error);
  }
  return { path, [Symbol.asyncDispose]: discard };
}

/** Opens all blobs: open files can still be read after the daemon has unlinked them. */
export async function openArchiveContents(
  index: Uint8Array,
  blobs: readonly Blob[],
): Promise<ArchiveContents & AsyncDisposable> {
  const opened: OpenBlob[] = [];
  const close = async () => void (await Promise.all(opened.map(({ handle }) => handle.close())));
  try {
    for (const blob of blobs) opened.push({ ...blob, handle: await open(blob.path, "r") });
  } catch (error) {
    await close();
    const path = blobs[opened.length]?.path ?? "";
    throw criErrors.blobUnopened({ path, reason: firstLine(error) }, error);
  }
  return { index, blobs: opened, [Symbol.asyncDispose]: close };
}

/**
 * Writes an OCI image layout as a tar. A regular file is renamed into place once it is complete and on disk; devices
 * and pipes are written directly.
 */
export async function writeArchive(
  file: string,
  contents: ArchiveContents,
  signal: AbortSignal,
  progress: Progress,
): Promise<void> {
  const bytes = Readable.from(tarOf(contents, progress), { objectMode: false });
  if (file === "-") {
    await pipeline(bytes, process.stdout, { signal, end: false }).catch((error: unknown) => {
      throw signal.aborted ? error : unwritten("standard output", error);
    });
    return;
  }
  const place = await stat(file).catch(() => undefined);
  const isReplaced = place === undefined || place.isFile();
  const draft = isReplaced ? `${file}.${process.pid}.unfinished` : file;
  try {
    const handle = await open(draft, isReplaced ? "wx" : "w");
    await pipeline(bytes, handle.createWriteStream({ flush: isReplaced }), { signal });
    if (isReplaced) await rename(draft, file);
  } catch (error) {
    if (isReplaced) await rm(draft, { force: true });
    throw signal.aborted || error instanceof KeelsonError ? error : unwritten(file, error);
  }
}

async function* tarOf({ index, blobs }: ArchiveContents, progress: Progress): AsyncGenerator<Uint8Array> {
  const version = Buffer.from('{"imageLayoutVersion":"1.0.0"}\n');
  for (const [name, content] of [["oci-layout", version] as const, ["index.json", index] as const]) {
    yield header(name, content.length);
    yield content;
    yield padding(content.length);
  }
  let done = 0;
  for (const { digest, size, path, handle } of blobs) {
    yield header(`blobs/${digest.replace(":", "/")}`, size);
    const begin = done;
    for await (const chunk of chunksOf(handle)) {
      yield chunk;
      done += chunk.length;
      progress(done);
    }
    if (done - begin !== size) throw criErrors.blobChanged({ path, size, actual: done - begin });
    yield padding(size);
  }
  yield Buffer.alloc(2 * blockBytes);
}

async function* chunksOf(handle: FileHandle): AsyncGenerator<Uint8Array> {
  for (;;) {
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(chunkBytes));
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

/** The header of a regular file, in POSIX ustar format. */
function header(name: string, size: number): Buffer {
  const block = Buffer.alloc(blockBytes);
  block.write(name, 0);
  block.write("0000644\x000000000\x000000000", 100);
  // From 8 GiB on as in GNU tar: base 256, with the first bit set.
  if (size < octalLimit) block.write(size.toString(8).padStart(11, "0"), 124);
  else {
    block.writeUInt8(0x80, 124);
    block.writeBigUInt64BE(BigInt(size), 128);
  }
  block.write("00000000000\x00        0", 136);
  block.write("ustar\x0000", 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

function padding(size: number): Buffer {
  return Buffer.alloc((blockBytes - (size % blockBytes)) % blockBytes);
}

function unwritten(file: string, error: unknown): KeelsonError {
  return criErrors.fileUnwritten({ file, reason: firstLine(error) }, error);
}
