// Follows containers' logs, printing each line prefixed with its container's name. Source: the CRI log format,
// "TIME STREAM TAGS CONTENT", where the tag P marks a partial line.
//
// Bounds: the size of a read (`chunkBytes`), and of a line (`lineLimit`; longer ones are printed in pieces). A slow
// reader blocks this, and log rotation (log-rotation.ts) bounds the backlog, so lines may then be lost.

import { type FileHandle, open, stat } from "node:fs/promises";

const chunkBytes = 64 << 10;
const lineLimit = 64 << 10;
/** The pause between two reads at the end of the log. */
const shortestPauseMs = 50;
const longestPauseMs = 400;

/** Resolves when more can be written. */
export type Write = (bytes: Buffer) => Promise<void>;

const newline = Buffer.from("\n");

/** Prints a log from its beginning until its container has exited and everything has been read. */
export async function followLog(path: string, prefix: string, ended: Promise<void>, write: Write): Promise<void> {
  let over = false;
  const end = ended
    .catch(() => undefined)
    .then(() => {
      over = true;
    });
  const lines = new LogLines(prefix);
  let pause = shortestPauseMs;
  let file: FileHandle | undefined;
  try {
    for (;;) {
      // Checked before the read, so that everything written before the exit is read.
      const last = over;
      file ??= await open(path).catch(() => undefined);
      const printed = file === undefined ? false : await copyNew(file, lines, write);
      if (!printed && file !== undefined && (await isReplaced(path, file))) {
        await file.close();
        file = undefined;
        continue;
      }
      if (last && !printed) return;
      pause = printed ? shortestPauseMs : Math.min(pause * 2, longestPauseMs);
      if (!printed) await Promise.race([end, new Promise((resolve) => setTimeout(resolve, pause))]);
    }
  } finally {
    const rest = lines.rest();
    if (rest.length > 0) await write(rest);
    await file?.close();
  }
}

/** Copies from the file's position to its current end; returns whether there was anything. */
async function copyNew(file: FileHandle, lines: LogLines, write: Write): Promise<boolean> {
  let any = false;
  for (;;) {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(chunkBytes), 0, chunkBytes, null);
    if (bytesRead === 0) return any;
    any = true;
    const output = lines.take(buffer.subarray(0, bytesRead));
    if (output.length > 0) await write(output);
  }
}

async function isReplaced(path: string, file: FileHandle): Promise<boolean> {
  const [now, ours] = await Promise.all([stat(path).catch(() => undefined), file.stat()]);
  return now !== undefined && (now.ino !== ours.ino || now.dev !== ours.dev);
}

/** Turns a log's bytes into lines to print. */
export class LogLines {
  readonly #prefix: Buffer;
  /** The beginning of an incomplete log entry. */
  #entry: Buffer = Buffer.alloc(0);
  /** Parts of an incomplete line by stream: stdout and stderr are independent. */
  readonly #parts = new Map<string, Buffer[]>();

  constructor(prefix: string) {
    this.#prefix = Buffer.from(prefix);
  }

  take(bytes: Buffer): Buffer {
    const pieces: Buffer[] = [];
    let rest = this.#entry.length === 0 ? bytes : Buffer.concat([this.#entry, bytes]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      this.#add(rest.subarray(0, end), pieces);
      rest = rest.subarray(end + 1);
    }
    if (rest.length > lineLimit) {
      this.#add(rest, pieces);
      rest = Buffer.alloc(0);
    }
    this.#entry = Buffer.from(rest);
    return Buffer.concat(pieces);
  }

  /** Returns the incomplete lines. */
  rest(): Buffer {
    const pieces: Buffer[] = [];
    for (const parts of this.#parts.values()) this.#print(parts, pieces);
    this.#parts.clear();
    return Buffer.concat(pieces);
  }

  #add(entry: Buffer, pieces: Buffer[]): void {
    const [, head = "", stream = "", tags = ""] =
      /^(\S+ (stdout|stderr) (\S+) ?)/.exec(entry.subarray(0, 100).toString("latin1")) ?? [];
    const parts = this.#parts.get(stream) ?? [];
    parts.push(entry.subarray(head.length));
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    if (tags === "P" && length < lineLimit) {
      this.#parts.set(
        stream,
        parts.map((part) => Buffer.from(part)),
      );
      return;
    }
    this.#parts.delete(stream);
    this.#print(parts, pieces);
  }

  #print(parts: readonly Buffer[], pieces: Buffer[]): void {
    pieces.push(this.#prefix, ...parts, newline);
  }
}
