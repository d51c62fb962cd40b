// The images of this node, in memory: built from names and manifests, looked up by any kind of reference.

import type { ImageConfigDocument } from "./config.ts";
import { chainIdsOf, isDigest } from "./digest.ts";
import { overlayOrder } from "./layers.ts";
import type { Layout } from "./layout.ts";
import { blobsOf, type Descriptor, type Manifest } from "./manifest.ts";
import type { NameEntry } from "./names.ts";
import type { Needs } from "./needs.ts";
import { normalise } from "./reference.ts";
import type { Digest, Image, ImageId } from "./types.ts";

/** A manifest whose content is complete on disk. */
export interface StoredManifest {
  readonly descriptor: Descriptor;
  readonly manifest: Manifest;
  readonly document: ImageConfigDocument;
  /** The id of its stack's cover (cover.ts), if it has one. */
  readonly cover: Digest | undefined;
}

const shortestPrefix = 3;

/** An immutable snapshot of the state; every change creates a new catalog. */
export class Catalog {
  readonly names: readonly NameEntry[];
  readonly manifests: ReadonlyMap<Digest, StoredManifest>;
  readonly images: readonly Image[];
  readonly #byId: ReadonlyMap<string, Image>;
  readonly #byName: ReadonlyMap<string, Image>;

  /** Names whose manifest is not in `manifests` are dropped. */
  constructor(layout: Layout, names: readonly NameEntry[], manifests: ReadonlyMap<Digest, StoredManifest>) {
    this.names = names.filter((entry) => manifests.has(entry.manifest.digest));
    const used = new Set(this.names.map((entry) => entry.manifest.digest));
    this.manifests = new Map([...manifests].filter(([digest]) => used.has(digest)));

    // One image may have several manifests (from other registries, with other compression): the config identifies it.
    const groups = Map.groupBy(this.manifests.values(), (stored) => stored.manifest.config.digest);
    const byId = new Map<string, Image>();
    const byName = new Map<string, Image>();
    for (const [id, group] of groups) {
      const own = new Set(group.map((stored) => stored.descriptor.digest));
      const imageNames = this.names.flatMap(({ manifest, name }) =>
        name !== undefined && own.has(manifest.digest) ? [name] : [],
      );
      const [first] = group;
      if (first === undefined) continue;
      const image = makeImage(layout, id, first, imageNames);
      byId.set(id, image);
      for (const name of imageNames) byName.set(name, image);
    }
    this.#byId = byId;
    this.#byName = byName;
    this.images = [...byId.values()];
  }

  /** By id, unique id prefix, name with or without tag, or name and digest. */
  find(reference: string): Image | undefined {
    return this.#byName.get(normalise(reference) ?? "") ?? this.#findById(reference);
  }

  /** The manifest a reference resolves to, and the normalised name if the reference is a name. */
  resolve(reference: string): { readonly stored: StoredManifest; readonly name: string | undefined } | undefined {
    const name = normalise(reference);
    const named = this.names.find((entry) => entry.name !== undefined && entry.name === name);
    const id = named === undefined ? this.#findById(reference)?.id : undefined;
    const stored = named === undefined ? id && this.manifestOf(id) : this.manifests.get(named.manifest.digest);
    return stored && { stored, name: named?.name };
  }

  /** Any of an image's manifests: all have the same config and therefore the same unpacked layers. */
  manifestOf(id: ImageId): StoredManifest | undefined {
    return this.manifests.values().find(({ manifest }) => manifest.config.digest === id);
  }

  /** Everything that the images need on disk. */
  needs(): Needs {
    const blobs = new Set<Digest>();
    const layers = new Set<Digest>();
    for (const stored of this.manifests.values()) {
      const { descriptor, manifest } = stored;
      for (const { digest } of blobsOf(descriptor, manifest)) blobs.add(digest);
      for (const layer of layersOf(stored)) layers.add(layer);
    }
    return { blobs, layers };
  }

  #findById(reference: string): Image | undefined {
    const hex = reference.replace(/^sha256:/, "");
    if (hex.length < shortestPrefix || !/^[0-9a-f]{1,64}$/.test(hex)) return undefined;
    const prefix = `sha256:${hex}`;
    if (isDigest(prefix)) return this.#byId.get(prefix);
    const matches = this.images.filter((image) => image.id.startsWith(prefix));
    return matches.length === 1 ? matches[0] : undefined;
  }
}

/** In overlayfs order: top first. */
export function layersOf({ document, cover }: StoredManifest): readonly Digest[] {
  return [...(cover === undefined ? [] : [cover]), ...overlayOrder(document.diffIds)];
}

function makeImage(layout: Layout, id: ImageId, stored: StoredManifest, names: readonly string[]): Image {
  const { descriptor, manifest, document } = stored;
  return {
    id,
    tags: names.filter((name) => !name.includes("@")).sort(),
    repoDigests: names.filter((name) => name.includes("@")).sort(),
    size: BigInt(blobsOf(descriptor, manifest).reduce((sum, { size }) => sum + size, 0)),
    config: document.config,
    pinned: false,
    layers: layersOf(stored).map((diffId) => layout.layerRoot(diffId)),
    chainIds: chainIdsOf(document.diffIds),
  };
}
