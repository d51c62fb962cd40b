// Covers: a cover is a layer of ours that lies over all layers of a stack, and has directories alone.
//
// A layer may have files in a directory and no entry for the directory itself. Unpacked it has one all the same, of which
// overlayfs would show mode, owner and times, as the topmost layer decides about them. In the cover that directory looks
// as in the layer below that has an entry for it. Most stacks need no cover.

import { mkdir } from "node:fs/promises";
import type { Host } from "../native/index.ts";
import { digestOf } from "./digest.ts";
import { overlayOrder, type StagedLayer, stagedRoot, stageRecord } from "./layers.ts";
import type { Layout } from "./layout.ts";
import { layerLimit } from "./manifest.ts";
import type { Digest } from "./types.ts";

/** What a stack's cover has in the place of a diff id (bottom first): images with the same layers share it. */
export function coverIdOf(diffIds: readonly Digest[]): Digest {
  return digestOf(`cover ${diffIds.join(" ")}`);
}

/** Whether a stack may need a cover: over as many layers as overlayfs takes none can lie. */
export function mayNeedCover(diffIds: readonly Digest[]): boolean {
  const { length } = overlayOrder(diffIds);
  return length >= 2 && length < layerLimit;
}

/**
 * Makes the cover of a stack (bottom first), all of whose layers are in place; undefined when it needs none. The staging
 * directory is the caller's to remove, also after a failure.
 */
export async function stageCover(
  diffIds: readonly Digest[],
  directory: string,
  layout: Layout,
  host: Host,
): Promise<StagedLayer | undefined> {
  const root = stagedRoot(directory);
  await mkdir(root, { recursive: true, mode: 0o755 });
  const inodes = await host.coverUnnamed(
    overlayOrder(diffIds).map((diffId) => layout.layerRoot(diffId)),
    root,
  );
  if (inodes === 0n) return undefined;
  return await stageRecord(directory, { diffId: coverIdOf(diffIds), blobs: [], unpackedBytes: 0n, inodes });
}
