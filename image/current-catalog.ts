// The catalog as it is now, and what changes it: names given and taken. Each change is on disk (names.ts) before it counts.
//
// Nothing here waits for its turn: whoever changes something has the inventory's queue.

import { isErrno } from "../native/index.ts";
import { Catalog, type StoredManifest } from "./catalog.ts";
import { imageErrors } from "./errors.ts";
import type { Layout } from "./layout.ts";
import { hasNames, type NameEntry, nameLimit, withNames, writeNames } from "./names.ts";
import type { Digest, Image, ImageId } from "./types.ts";

export class CurrentCatalog {
  readonly #layout: Layout;
  #catalog: Catalog;

  constructor(layout: Layout, catalog: Catalog) {
    this.#layout = layout;
    this.#catalog = catalog;
  }

  /** As it is until the next change. */
  get catalog(): Catalog {
    return this.#catalog;
  }

  /**
   * Gives an image names, and with the first ones its existence. `makeDurable` is awaited before it has one that it did not
   * have. Throws ResourceExhausted past `nameLimit`.
   */
  async name(
    stored: StoredManifest,
    names: readonly string[],
    makeDurable: () => Promise<void> = async () => undefined,
  ): Promise<Image> {
    const { descriptor, manifest } = stored;
    const id = manifest.config.digest;
    if (!hasNames(this.#catalog.names, descriptor, names)) {
      const named = withNames(this.#catalog.names, descriptor, names);
      if (named.length > nameLimit) throw imageErrors.tooManyNames({ limit: nameLimit });
      await makeDurable();
      await this.#replace(named, new Map(this.#catalog.manifests).set(descriptor.digest, stored));
    }
    const image = this.#catalog.find(id);
    if (image === undefined) throw imageErrors.noSuchImage({ reference: id });
    return image;
  }

  /**
   * Takes all names of an image. On a full disk the shorter list cannot be written before there is room: then its content
   * goes first, by `makeRoom`. Cut short there, the next start finds the image not whole and drops it, as was wanted.
   */
  async forget(image: ImageId, makeRoom: () => Promise<void>): Promise<void> {
    const { names, manifests } = this.#catalog;
    const isOther = (entry: NameEntry) => manifests.get(entry.manifest.digest)?.manifest.config.digest !== image;
    const kept = names.filter(isOther);
    try {
      await this.#replace(kept, manifests);
    } catch (error) {
      if (!isErrno(error, "ENOSPC", "EDQUOT")) throw error;
      this.#catalog = new Catalog(this.#layout, kept, manifests);
      await makeRoom();
      await this.#replace(kept, manifests);
    }
  }

  async #replace(names: readonly NameEntry[], manifests: ReadonlyMap<Digest, StoredManifest>): Promise<void> {
    const catalog = new Catalog(this.#layout, names, manifests);
    await writeNames(this.#layout.index, catalog.names);
    this.#catalog = catalog;
  }
}
