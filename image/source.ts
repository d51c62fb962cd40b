// Where an image's content comes from: a registry (registry.ts) or an archive (archive.ts).

import type { Writable } from "node:stream";
import { digestOf } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import type { Descriptor, FoundManifest } from "./manifest.ts";

export interface ContentSource {
  /** The registry, or the archive's path: from the same one the same content is fetched once. */
  readonly origin: string;
  /** The bytes of a small document (`documentLimit`), checked against the descriptor. */
  read(descriptor: Descriptor, signal: AbortSignal): Promise<Buffer>;
  /**
   * Writes a blob of exactly the descriptor's size to `sink`, from byte `start` on, and ends it; the reader of `sink`
   * checks the digest.
   */
  copy(descriptor: Descriptor, start: number, sink: Writable, signal: AbortSignal): Promise<void>;
  /** Told that what was copied of this blob is wrong: whether a further copy comes from somebody else. */
  distrust(descriptor: Descriptor): boolean;
}

/** An image that was found at its source, ready to be taken into the store. */
export interface FoundImage {
  readonly manifest: FoundManifest;
  /** Normalised, with a tag or a digest; none for one that is known by its id alone. */
  readonly names: readonly string[];
  readonly source: ContentSource;
}

/** Throws FailedPrecondition unless a document is what its descriptor says. `object` is the words for messages. */
export function checkBlob(bytes: Buffer, descriptor: Descriptor, object: string): void {
  if (bytes.length !== descriptor.size) {
    throw imageErrors.sizeMismatch({ object, actual: bytes.length, expected: descriptor.size });
  }
  const actual = digestOf(bytes);
  if (actual !== descriptor.digest) throw imageErrors.digestMismatch({ object, actual, expected: descriptor.digest });
}
