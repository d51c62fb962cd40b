// Runs keelson-unpack: one process for each layer, fed with the compressed bytes.

import type { Writable } from "node:stream";

export interface LayerReport {
  /** `sha256:…` of the bytes as fed. */
  readonly digest: string;
  /** Bytes as fed. */
  readonly size: bigint;
  /** `sha256:…` of the inflated tar. */
  readonly diffId: string;
  /** Inflated bytes of file content written. */
  readonly unpackedBytes: bigint;
  readonly inodes: bigint;
}

export interface UnpackOptions {
  /** Existing empty directory that becomes the layer's root, in overlayfs form. */
  readonly directory: string;
  /** File to write the fed bytes to as well (created, must not exist), or none. */
  readonly blobPath?: string;
  /** A layer must not inflate past this many bytes. */
  readonly maxBytes: bigint;
  readonly maxInodes: bigint;
}

/** One layer on its way: write the blob's bytes to `input`, end it, await `report`. */
export interface LayerUnpack {
  readonly input: Writable;
  readonly report: Promise<LayerReport>;
  /** Kills the process; `report` rejects. The directory is the caller's to remove. */
  abort(): void;
}
