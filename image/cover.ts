// Covers: a cover is a generated layer on top of all layers of a stack. It contains only directories.
//
// A layer may have files in a directory without an entry for the directory itself. Unpacking creates that directory
// anyway, and overlayfs would show its mode, owner and times, because the topmost layer wins. The cover repeats the
// directory with the attributes from the lower layer that has an entry for it. Most stacks need no cover.

import { mkdir } from "node:fs/promises";
import type { Host } from "../native/index.ts";
import { digestOf } from "./digest.ts";
import { overlayOrder, type StagedLayer, stagedRoot, stageRecord } from "./layers.ts";
import type { Layout } from "./layout.ts";
import { layerLimit } from "./manifest.ts";
import type { Digest } from "./types.ts";

/** Identifies the cover of a stack (bottom first) in place of a diff id; images with the same layers share it. */
export function coverIdOf(diffIds: readonly Digest[]): Digest {
  return digestOf(`cover ${diffIds.join(" ")}`);
}

/** Whether a stack may need a cover: there is no room for one on a stack of as many layers as overlayfs accepts. */
export function mayNeedCover(diffIds: readonly Digest[]): boolean {
  const { length } = overlayOrder(diffIds);
  return length >= 2 && length < layerLimit;
}

/**
 * Creates the cover of a stack (bottom first), all of whose layers are in place; undefined when it needs none. The
 * caller removes the staging directory, also after a failure.
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
