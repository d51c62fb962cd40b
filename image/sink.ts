// Writes into a sink that may be slow but must not hang.

import type { Writable } from "node:stream";
import { orAborted, TimeLimit } from "../native/index.ts";
import { imageErrors } from "./errors.ts";

/** Milliseconds that the sink may accept nothing: a slow disk is no failure, a dead one is. */
const stallMs = 5 * 60 * 1000;

/**
 * Writes with backpressure: resolves when the sink has room for more. Rejects with FailedPrecondition when it accepts
 * nothing for five minutes, or with the signal's reason. `object` is for messages: `Layer sha256:…`.
 */
export async function writeInto(sink: Writable, chunk: Buffer, object: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (sink.write(chunk)) return;
  const problem = `the unpacker accepted no data for ${stallMs} ms`;
  using limit = new TimeLimit(stallMs, () => imageErrors.layerRefused({ object, problem }), signal);
  const drained = Promise.withResolvers<void>();
  sink.once("drain", drained.resolve).once("error", drained.reject);
  try {
    await orAborted(drained.promise, limit.signal);
  } finally {
    sink.off("drain", drained.resolve).off("error", drained.reject);
  }
}
