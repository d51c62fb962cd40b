// An in-memory image store with one image, "img", and the writable layers of containers.

import type { FileSystemUse, HeldArchive, Image, ImageId, ImageStore, Snapshot } from "../../image/types.ts";
import type { Script } from "./script.ts";

export class ScriptedImages implements ImageStore {
  /** Ids of containers that have a writable layer. */
  readonly layers = new Set<string>();
  /** What the image's config sets. */
  config: Partial<Image["config"]> = {};
  readonly #script: Script;

  constructor(script: Script) {
    this.#script = script;
  }

  list(): readonly Image[] {
    return [theImage];
  }

  find(reference: string): Image | undefined {
    return reference === "img" ? { ...theImage, config: { ...theImage.config, ...this.config } } : undefined;
  }

  async document(): Promise<unknown> {
    return null;
  }

  async prepareSnapshot(containerId: string): Promise<Snapshot> {
    return await this.#script.call("images prepareSnapshot", containerId, () => {
      this.layers.add(containerId);
      return { lower: ["/layer"], upper: "/upper", work: "/work" };
    });
  }

  async removeSnapshot(containerId: string): Promise<void> {
    await this.#script.call("images removeSnapshot", containerId, () => {
      this.layers.delete(containerId);
    });
  }

  async snapshotUse(containerId: string): Promise<FileSystemUse> {
    if (!this.layers.has(containerId)) throw new Error("no such layer");
    return { mountpoint: "/", usedBytes: 4096n, inodesUsed: 1n, timestamp: 1n };
  }

  snapshots(): readonly string[] {
    return [...this.layers];
  }

  async pull(): Promise<Image> {
    return theImage;
  }

  async remove(): Promise<void> {}

  async load(): Promise<readonly Image[]> {
    return [];
  }

  async transfer(): Promise<undefined> {}

  async tag(): Promise<Image> {
    return theImage;
  }

  hold(): HeldArchive {
    return { index: Buffer.alloc(0), blobs: [], release: () => undefined };
  }

  async fileSystemUse(): Promise<{ readonly images: FileSystemUse; readonly containers: FileSystemUse }> {
    const use = { mountpoint: "/", usedBytes: 0n, inodesUsed: 0n, timestamp: 1n };
    return { images: use, containers: use };
  }

  async close(): Promise<void> {}
}

const id = imageId(`sha256:${"a".repeat(64)}`);

const theImage: Image = {
  id,
  tags: ["img"],
  repoDigests: [],
  size: 1n,
  config: {
    env: [],
    entrypoint: [],
    cmd: ["/bin/true"],
    workingDir: "",
    user: "",
    volumes: [],
    stopSignal: "",
    labels: new Map(),
  },
  pinned: false,
  layers: ["/layer"],
  chainIds: [id],
};

export function imageId(text: string): ImageId {
  const isImageId = (value: string): value is ImageId => /^sha256:[0-9a-f]{64}$/.test(value);
  if (!isImageId(text)) throw new TypeError(`${text} is not an image id`);
  return text;
}
