// Copies a blob from the network into a stream, resumed by Range (RFC 9110 section 14.2) when the connection breaks.
//
// Bounds: the size from the manifest, which layers.ts checks against the limit; the time without progress of the sink
// (sink.ts); tries without progress (RetryPolicy). Only the sink's own buffer holds pending data.

import type { Writable } from "node:stream";
import { passedBuffer, reuseBuffers } from "../native/index.ts";
import { imageErrors } from "./errors.ts";
import { ConnectionError, type HttpConnections, type HttpResponse, header } from "./http.ts";
import { backOff, type RetryPolicy } from "./retry.ts";
import { writeInto } from "./sink.ts";

export interface BlobCopy {
  /** For messages: `Layer sha256:… of …`. */
  readonly object: string;
  /** Offset of the first byte to copy. */
  readonly start: number;
  /** Exact size of the complete blob in bytes. */
  readonly size: number;
  /** Ended once all bytes are written; not ended on failure. */
  readonly sink: Writable;
  readonly retry: RetryPolicy;
  readonly connections: HttpConnections;
  /** Requests the blob from this offset on. */
  open(offset: number): Promise<HttpResponse>;
  /** Called when the endpoint that answered last broke off repeatedly without new data. */
  onNoProgress(): void;
  readonly signal: AbortSignal;
}

/** Bytes. A connection that delivered this much before it broke counts as working: the tries start over. */
const goodProgress = 1024 * 1024;

/** Copies a blob. Rejects with RegistryUnavailable when tries run out, FailedPrecondition when the size is wrong. */
export async function copyBlob(copy: BlobCopy): Promise<void> {
  using _reuse = reuseBuffers();
  let offset = copy.start;
  // Never request a range past the end: a registry answers that with 416.
  for (let next = 2; offset < copy.size; next++) {
    const response = await copy.open(offset);
    const before = offset;
    try {
      let skip = offset - firstByte(response, offset, copy);
      for await (const chunk of copy.connections.body(response, copy.signal)) {
        const fresh = skip >= chunk.length ? undefined : chunk.subarray(skip);
        skip = Math.max(0, skip - chunk.length);
        if (fresh === undefined) continue;
        offset += fresh.length;
        passedBuffer(fresh.length);
        if (offset > copy.size) throw wrongSize(copy, `more than ${copy.size}`);
        await writeInto(copy.sink, fresh, copy.object, copy.signal);
      }
      if (offset === copy.size) break;
      // A short body that matches its Content-Length is all the registry has: a retry would not add to it.
      const announced = Number(header(response, "content-length") ?? Number.NaN);
      if (announced === offset - before) throw wrongSize(copy, offset);
      throw new ConnectionError(`only ${offset} of ${copy.size} bytes arrived`, true);
    } catch (error) {
      copy.signal.throwIfAborted();
      if (!(error instanceof ConnectionError)) throw error;
      if (offset === copy.size) break;
      if (offset - before >= goodProgress) next = 2;
      if (next > copy.retry.tries) {
        throw imageErrors.registryUnavailable({ object: copy.object, problem: error.message }, error);
      }
      if (next > 2 && offset === before) copy.onNoProgress();
      await backOff(copy.retry, next, 0, copy.signal);
    }
  }
  copy.sink.end();
}

/** Where the body starts: at the requested offset, or at 0 when the registry does not support ranges. */
function firstByte(response: HttpResponse, offset: number, copy: BlobCopy): number {
  if (response.statusCode !== 206) return 0;
  const range = /^bytes (\d+)-/.exec(header(response, "content-range") ?? "")?.[1];
  if (range === undefined || Number(range) !== offset) {
    copy.connections.giveUp(response);
    throw imageErrors.registryRefused({
      object: copy.object,
      problem: `the registry sent a range that does not start at ${offset}`,
    });
  }
  return offset;
}

function wrongSize(copy: BlobCopy, actual: number | string): Error {
  return imageErrors.sizeMismatch({ object: copy.object, actual, expected: copy.size });
}
