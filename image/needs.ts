// Which content somebody needs: an image, a container, a pull under way. All other content is garbage.

import { coverIdOf } from "./cover.ts";
import { blobsOf, type Descriptor, type Manifest } from "./manifest.ts";
import type { Digest } from "./types.ts";

export interface Needs {
  readonly blobs: ReadonlySet<Digest>;
  readonly layers: ReadonlySet<Digest>;
}

/** Needs that count until they are released; a second release does nothing. */
export interface Lease {
  release(): void;
}

/** Of an image that is coming in; without diff ids as long as its config is not there. */
export function needsOf(descriptor: Descriptor, manifest: Manifest, diffIds: readonly Digest[]): Needs {
  const blobs = new Set(blobsOf(descriptor, manifest).map(({ digest }) => digest));
  return { blobs, layers: new Set([...diffIds, coverIdOf(diffIds)]) };
}
