// Unpacked layers on disk: one directory per diff id, independent of image and stack.
//
// A lower layer of overlayfs needs no parent, so equal layers are shared by all images and are unpacked in parallel, in
// any order.
//
// Bounds: a layer's bytes, both compressed and inflated, and its inodes (LayerLimits); the time that the unpacker takes
// after the last byte (`finishMs`); a record that is read back (`recordLimit`).

import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, stat } from "node:fs/promises";
import path from "node:path";
import {
  isErrno,
  KeelsonError,
  type LayerReport,
  type LayerUnpack,
  MalformedJson,
  messageOf,
  readJsonObject,
  replaceFile,
  type UnpackOptions,
  withTimeLimit,
  writeFile,
} from "../native/index.ts";
import { isDigest } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import type { BlobHead } from "./heads.ts";
import type { Layout } from "./layout.ts";
import type { Descriptor } from "./manifest.ts";
import { writeInto } from "./sink.ts";
import type { ContentSource } from "./source.ts";
import type { Digest } from "./types.ts";

export interface LayerLimits {
  /** Bytes of one layer, both compressed and inflated. */
  readonly bytes: bigint;
  readonly inodes: bigint;
}

export type Unpack = (options: UnpackOptions) => LayerUnpack;

export interface LayerRecord {
  readonly diffId: Digest;
  /** Blobs that were verified to inflate to it. */
  readonly blobs: readonly Digest[];
  readonly unpackedBytes: bigint;
  readonly inodes: bigint;
}

/** A verified layer in its own staging directory, not yet part of the store. */
export interface StagedLayer {
  readonly directory: string;
  readonly record: LayerRecord;
}

/** File name in a staging directory. */
export const blobName = "blob";
const recordName = "layer.json";
/** Bytes. */
const recordLimit = 1024 * 1024;
/** Milliseconds that the unpacker may take after the last byte was written to it: it buffers little. */
const finishMs = 10 * 60 * 1000;

export interface LayerStaging {
  readonly descriptor: Descriptor;
  readonly diffId: Digest;
  readonly source: ContentSource;
  /** The part that has already arrived, which is not requested from `source`. */
  readonly head: BlobHead | undefined;
  /** A new staging directory. */
  readonly directory: string;
  readonly unpack: Unpack;
  readonly limits: LayerLimits;
  readonly signal: AbortSignal;
}

/**
 * Streams a blob through the unpacker into a staging directory, as `blob` and `layer/root`. Checks digest, size and
 * diff id. The caller removes the directory, also after a failure: `blob` then contains everything that arrived,
 * without gaps. Rejects with FailedPrecondition for content that does not match, ResourceExhausted past a limit, and
 * with the errors of the unpacker and the source.
 */
export async function stageLayer(options: LayerStaging): Promise<StagedLayer> {
  const { descriptor, diffId, directory, limits } = options;
  const object = `Layer ${descriptor.digest}`;
  if (BigInt(descriptor.size) > limits.bytes) throw imageErrors.tooLarge({ object, limit: String(limits.bytes) });
  await mkdir(stagedRoot(directory), { recursive: true, mode: 0o755 });
  const unpack = options.unpack({
    directory: stagedRoot(directory),
    blobPath: path.join(directory, blobName),
    maxBytes: limits.bytes,
    maxInodes: limits.inodes,
  });
  const report = await feed(unpack, object, options);
  if (report.size !== BigInt(descriptor.size)) {
    throw imageErrors.sizeMismatch({ object, actual: String(report.size), expected: descriptor.size });
  }
  if (report.digest !== descriptor.digest) {
    throw imageErrors.digestMismatch({ object, actual: report.digest, expected: descriptor.digest });
  }
  if (report.diffId !== diffId) {
    throw imageErrors.digestMismatch({ object: `${object}, inflated,`, actual: report.diffId, expected: diffId });
  }
  const { unpackedBytes, inodes } = report;
  return await stageRecord(directory, { diffId, blobs: [descriptor.digest], unpackedBytes, inodes });
}

/** The root of a staged layer in its staging directory. */
export function stagedRoot(directory: string): string {
  return path.join(directory, "layer", "root");
}

/** Writes the record next to the root of a complete layer. */
export async function stageRecord(directory: string, record: LayerRecord): Promise<StagedLayer> {
  await writeFile(path.join(directory, "layer", recordName), formatRecord(record), { mode: 0o600 });
  return { directory, record };
}

/** Runs the copy and the unpacker concurrently; the failure of either stops both. */
async function feed(
  unpack: LayerUnpack,
  object: string,
  { descriptor, source, head, signal }: LayerStaging,
): Promise<LayerReport> {
  const stop = new AbortController();
  // The pipe breaks when the unpacker fails; its report contains the reason.
  unpack.input.on("error", () => undefined);
  const report = unpack.report.catch((error: unknown) => {
    const refused = refusal(object, error);
    stop.abort(refused);
    throw refused;
  });
  try {
    const either = AbortSignal.any([signal, stop.signal]);
    if (head !== undefined)
      for await (const chunk of createReadStream(head.path)) await writeInto(unpack.input, chunk, object, either);
    await source.copy(descriptor, head?.size ?? 0, unpack.input, either);
    // The unpacker is aborted below.
    return await withTimeLimit(report, finishMs, () =>
      imageErrors.layerRefused({ object, problem: `the unpacker did not exit within ${finishMs} ms` }),
    );
  } catch (error) {
    // The sink broke during the copy: the unpacker's own error takes precedence.
    if (isBrokenPipe(error)) await report.catch(() => undefined);
    const cause = stop.signal.aborted ? stop.signal.reason : error;
    unpack.abort();
    await report.catch(() => undefined);
    signal.throwIfAborted();
    throw cause;
  }
}

/** The unpacker's own message and code, prefixed with the layer. */
function refusal(object: string, error: unknown): Error {
  if (error instanceof KeelsonError) {
    return new KeelsonError(error.name, error.code, `${object}: ${error.message}`, error);
  }
  return imageErrors.layerRefused({ object, problem: messageOf(error) }, error);
}

const brokenPipe: ReadonlySet<string> = new Set([
  "EPIPE",
  "ECONNRESET",
  "ERR_STREAM_DESTROYED",
  "ERR_STREAM_PREMATURE_CLOSE",
  "ERR_STREAM_WRITE_AFTER_END",
]);

function isBrokenPipe(error: unknown): boolean {
  if (!(error instanceof Error) || !("code" in error)) return false;
  return brokenPipe.has(String(error.code));
}

/**
 * Moves a staged layer and its blob into place; a layer that is already there (`known`) stays. Returns its new record.
 */
export async function placeLayer(
  layout: Layout,
  staged: StagedLayer,
  known: LayerRecord | undefined,
  blob: Digest,
): Promise<LayerRecord> {
  await rename(path.join(staged.directory, blobName), layout.blob(blob));
  if (known === undefined) {
    await placeUnpacked(layout, staged);
    return staged.record;
  }
  const record = { ...known, blobs: [...new Set([...known.blobs, blob])] };
  // Images already depend on this layer: its record must not be lost in a power cut now.
  await replaceFile(path.join(layout.layer(known.diffId), recordName), formatRecord(record), "content and name");
  return record;
}

/**
 * Moves a staged layer into place that has no blob, or whose blob is in place. A directory that is already there has
 * lost its record, and a container may be running on its root, which therefore cannot be removed: it is kept in a
 * subdirectory, and removed together with the layer.
 */
export async function placeUnpacked(layout: Layout, { directory, record }: StagedLayer): Promise<void> {
  const from = path.join(directory, "layer");
  const to = layout.layer(record.diffId);
  try {
    await rename(from, to);
  } catch (error) {
    if (!isErrno(error, "ENOTEMPTY", "EEXIST")) throw error;
    const before = await mkdtemp(path.join(to, "before-"));
    for (const name of ["root", recordName]) {
      await rename(path.join(to, name), path.join(before, name)).catch((missing: unknown) => {
        if (!isErrno(missing, "ENOENT")) throw missing;
      });
      await rename(path.join(from, name), path.join(to, name));
    }
  }
}

/**
 * The layers of a stack in overlayfs order: top first. Of a layer that occurs twice, only the topmost occurrence
 * counts: it already provides or hides whatever the lower one does, and overlayfs rejects the same directory twice.
 */
export function overlayOrder(diffIds: readonly Digest[]): readonly Digest[] {
  return [...new Set(diffIds.toReversed())];
}

/** Reads the records of all layers on disk; a directory that is incomplete or cannot be read is skipped. */
export async function readLayers(
  layout: Layout,
  onProblem: (sentence: string) => void,
): Promise<Map<Digest, LayerRecord>> {
  const records = new Map<Digest, LayerRecord>();
  for (const name of await readdir(layout.layers)) {
    const diffId = `sha256:${name}`;
    if (!isDigest(diffId)) continue;
    try {
      const record = await readLayerRecord(layout, diffId);
      if (record !== undefined) records.set(diffId, record);
    } catch (error) {
      onProblem(`The layer ${layout.layer(diffId)} could not be read and counts as missing. ${messageOf(error)}`);
    }
  }
  return records;
}

function formatRecord(record: LayerRecord): string {
  const { diffId, blobs, unpackedBytes, inodes } = record;
  return `${JSON.stringify({ diffId, blobs, unpackedBytes: Number(unpackedBytes), inodes: Number(inodes) })}\n`;
}

async function readLayerRecord(layout: Layout, diffId: Digest): Promise<LayerRecord | undefined> {
  const file = path.join(layout.layer(diffId), recordName);
  try {
    if ((await stat(file)).size > recordLimit || !(await stat(layout.layerRoot(diffId))).isDirectory())
      return undefined;
    const document = readJsonObject(await readFile(file));
    if (document.string("diffId") !== diffId) return undefined;
    return {
      diffId,
      blobs: document.strings("blobs").filter(isDigest),
      unpackedBytes: BigInt(document.count("unpackedBytes") ?? 0),
      inodes: BigInt(document.count("inodes") ?? 0),
    };
  } catch (error) {
    if (isErrno(error, "ENOENT") || error instanceof MalformedJson) return undefined;
    throw error;
  }
}
