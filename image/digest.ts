// Content digests (OCI image-spec descriptor.md, "Digests"). Only sha256 is accepted: every registry supports it.

import { createHash } from "node:crypto";
import type { Digest } from "./types.ts";

const pattern = /^sha256:[0-9a-f]{64}$/;

/** The only check that turns text into a Digest; a valid one is safe as a file name. */
export function isDigest(text: string): text is Digest {
  return pattern.test(text);
}

export function parseDigest(text: string | undefined): Digest | undefined {
  return text !== undefined && isDigest(text) ? text : undefined;
}

/** Digest of bytes in memory; for documents of a few MiB at most, because it runs on the event loop. */
export function digestOf(bytes: Buffer | string): Digest {
  const text = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  if (!isDigest(text)) throw new Error(`sha256 gave ${text}`);
  return text;
}

/** The 64 hex digits alone: the file name in `blobs/sha256/`. */
export function hexOf(digest: Digest): string {
  return digest.slice("sha256:".length);
}

/**
 * Chain ids of a stack of layers, bottom first (OCI image-spec config.md, "Layer ChainID"):
 * the first is the diff id itself, each subsequent one is the hash of `previous + " " + diff id`.
 */
export function chainIdsOf(diffIds: readonly Digest[]): readonly Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const below = chain.at(-1);
    chain.push(below === undefined ? diffId : digestOf(`${below} ${diffId}`));
  }
  return chain;
}
