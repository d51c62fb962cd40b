// The content that an image, a container or a pull in progress needs. All other content is garbage.

import { coverIdOf } from "./cover.ts";
import { blobsOf, type Descriptor, type Manifest } from "./manifest.ts";
import type { Digest } from "./types.ts";

export interface Needs {
  readonly blobs: ReadonlySet<Digest>;
  readonly layers: ReadonlySet<Digest>;
}

/** Keeps needs valid until released; a second release does nothing. */
export interface Lease {
  release(): void;
}

/** The needs of an image that is being pulled; without diff ids until its config is known. */
export function needsOf(descriptor: Descriptor, manifest: Manifest, diffIds: readonly Digest[]): Needs {
  const blobs = new Set(blobsOf(descriptor, manifest).map(({ digest }) => digest));
  return { blobs, layers: new Set([...diffIds, coverIdOf(diffIds)]) };
}
