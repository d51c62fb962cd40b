// The current catalog and its changes: adding and removing names. Each change is on disk (names.ts) before it takes
// effect.
//
// Nothing here serialises: callers of the methods that change something hold the inventory's queue.

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

  /** The state until the next change. */
  get catalog(): Catalog {
    return this.#catalog;
  }

  /**
   * Adds names to an image; the first ones create the image. `makeDurable` is awaited before any new name is added.
   * Throws ResourceExhausted past `nameLimit`.
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
   * Removes all names of an image. On a full disk the shorter list cannot be written until there is room: then
   * `makeRoom` removes the content first. After a crash at that point, the next start drops the incomplete image, as
   * intended.
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
