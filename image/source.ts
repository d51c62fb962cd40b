// The source of an image's content: a registry (registry.ts) or an archive (archive.ts).

import type { Writable } from "node:stream";
import { digestOf } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import type { Descriptor, FoundManifest } from "./manifest.ts";

export interface ContentSource {
  /** The registry, or the archive's path: the same content is fetched only once per origin. */
  readonly origin: string;
  /** The bytes of a small document (`documentLimit`), checked against the descriptor. */
  read(descriptor: Descriptor, signal: AbortSignal): Promise<Buffer>;
  /**
   * Writes a blob of exactly the descriptor's size to `sink`, from byte `start` on, and ends `sink`, whose reader
   * checks the digest.
   */
  copy(descriptor: Descriptor, start: number, sink: Writable, signal: AbortSignal): Promise<void>;
  /** Reports that the copied blob was wrong; true when the next copy will come from another host. */
  distrust(descriptor: Descriptor): boolean;
}

/** An image that was found at its source, ready to be imported into the store. */
export interface FoundImage {
  readonly manifest: FoundManifest;
  /** Normalised, with a tag or a digest; empty for an image that only has an id. */
  readonly names: readonly string[];
  readonly source: ContentSource;
}

/** Throws FailedPrecondition unless a document matches its descriptor. `object` names it in messages. */
export function checkBlob(bytes: Buffer, descriptor: Descriptor, object: string): void {
  if (bytes.length !== descriptor.size) {
    throw imageErrors.sizeMismatch({ object, actual: bytes.length, expected: descriptor.size });
  }
  const actual = digestOf(bytes);
  if (actual !== descriptor.digest) throw imageErrors.digestMismatch({ object, actual, expected: descriptor.digest });
}
