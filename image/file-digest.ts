// The digest of a part of a file, computed in its own thread: layers are too large for the event loop.
//
// The thread runs this same module. It holds one piece in memory, and the signal terminates it.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { readSync } from "node:fs";
import { parentPort, Worker, workerData } from "node:worker_threads";
import { parseDigest } from "./digest.ts";
import type { Digest } from "./types.ts";

export interface FilePart {
  /** Must stay open until the digest is computed. */
  readonly fd: number;
  /** Bytes from the file's start. */
  readonly start: number;
  readonly end: number;
}

const pieceSize = 1024 * 1024;
/** Distinguishes our thread's data from that of other threads that import this module. */
const task = "keelson file digest";

/** Rejects with the signal's reason, and when the file ends before the part does. */
export async function digestOfPart(part: FilePart, signal: AbortSignal): Promise<Digest> {
  signal.throwIfAborted();
  const worker = new Worker(new URL(import.meta.url), { workerData: { task, part } });
  try {
    const [answer]: unknown[] = await once(worker, "message", { signal });
    const digest = typeof answer === "string" ? parseDigest(answer) : undefined;
    if (digest === undefined) throw new Error("the digest thread returned no digest");
    return digest;
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    // Resolves once the thread has exited: it reads from the descriptor until then.
    await worker.terminate();
  }
}

function makeDigest({ fd, start, end }: FilePart): string {
  const hash = createHash("sha256");
  const piece = Buffer.alloc(pieceSize);
  for (let at = start; at < end; ) {
    const length = readSync(fd, piece, 0, Math.min(pieceSize, end - at), at);
    if (length === 0) throw new Error("the file ended early");
    hash.update(piece.subarray(0, length));
    at += length;
  }
  return `sha256:${hash.digest("hex")}`;
}

if (parentPort !== null && isTask(workerData)) parentPort.postMessage(makeDigest(workerData.part));

function isTask(data: unknown): data is { readonly part: FilePart } {
  return typeof data === "object" && data !== null && "task" in data && data.task === task && "part" in data;
}
