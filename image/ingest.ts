// Ingests images from registries and archives: fetches the content, makes it durable, and only then names the image.

import type { Host } from "../native/index.ts";
import { archivedImages } from "./archive.ts";
import { openArchive } from "./archive-files.ts";
import type { StoredManifest } from "./catalog.ts";
import { checkConfig, checkPlatform, parseImageConfig } from "./config.ts";
import type { CurrentCatalog } from "./current-catalog.ts";
import { digestOf } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import type { Inventory } from "./inventory.ts";
import type { Layout } from "./layout.ts";
import { type Descriptor, type Manifest, parseManifest } from "./manifest.ts";
import { needsOf } from "./needs.ts";
import type { Platform } from "./platform.ts";
import type { ImageNames, PullOptions } from "./pull.ts";
import { formatReference, normalise, type Reference } from "./reference.ts";
import type { ContentSource, FoundImage } from "./source.ts";
import type { Digest, Image, RegistryAuth, Transfer } from "./types.ts";
import { isOutOfRoom, isWorthAnotherPull, UnfinishedPulls } from "./unfinished.ts";

export interface IngestOptions extends PullOptions {
  readonly host: Host;
  /** The node's own, which selects the image of an index. */
  readonly platform: Platform;
  /** Milliseconds for which the content of a pull that the network or its caller interrupted is kept for a retry. */
  readonly keepUnfinishedMs: number;
}

export interface IngestParts {
  readonly layout: Layout;
  readonly inventory: Inventory;
  readonly current: CurrentCatalog;
  /** Removes content that nothing needs. */
  readonly collect: () => Promise<void>;
  /** Aborted when the store closes. */
  readonly closing: AbortSignal;
}

export class Ingestion {
  readonly #options: IngestOptions;
  readonly #layout: Layout;
  readonly #inventory: Inventory;
  readonly #current: CurrentCatalog;
  readonly #collect: () => Promise<void>;
  readonly #closing: AbortSignal;
  readonly #unfinished: UnfinishedPulls;
  /** Layers of the image in progress, by the reference that is pulled or the path that is loaded. */
  readonly #transfers = new Map<string, readonly Descriptor[]>();

  constructor(options: IngestOptions, { layout, inventory, current, collect, closing }: IngestParts) {
    this.#options = options;
    this.#layout = layout;
    this.#inventory = inventory;
    this.#current = current;
    this.#collect = collect;
    this.#closing = closing;
    this.#unfinished = new UnfinishedPulls(options.keepUnfinishedMs, () => {
      // Whatever cannot be removed now is removed by the next collection, or at the next start.
      collect().catch(() => undefined);
    });
  }

  /** Gives up the content of interrupted pulls, which the next collection removes. */
  dropUnfinished(): void {
    this.#unfinished.dropAll();
  }

  async transfer(subject: string): Promise<Transfer | undefined> {
    const layers = this.#transfers.get(subject) ?? this.#transfers.get(normalise(subject) ?? "");
    return layers && (await this.#inventory.transfer(layers));
  }

  async pull(reference: Reference, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<Image> {
    // The HTTP client takes a tenth of a second and 10 MB to load: only a daemon that pulls loads it.
    const { findImage, namesBy, openRepository } = await import("./pull.ts");
    const source = await openRepository(reference, auth, this.#options);
    try {
      if (this.#current.catalog.resolve(formatReference(reference)) !== undefined) {
        const digest = await source.currentDigest(signal);
        const image = digest && (await this.#nameAgain(namesBy(reference, digest), signal));
        if (image !== undefined) return image;
      }
      const found = await findImage(source, reference, this.#options.platform, signal);
      return await this.#ingest(found, formatReference(reference), signal);
    } finally {
      source.close();
    }
  }

  async load(file: string, signal: AbortSignal): Promise<readonly Image[]> {
    const scratch = await this.#layout.makeStagingDirectory();
    try {
      const files = await openArchive(file, scratch, this.#options.host, signal);
      try {
        const images: Image[] = [];
        for (const found of await archivedImages(files, file, this.#options.platform, signal)) {
          images.push(await this.#ingest(found, file, signal));
        }
        return images;
      } finally {
        await files.close();
      }
    } finally {
      await this.#options.host.removeTree(scratch);
    }
  }

  /**
   * Ingests an image's content, makes it durable, and only then names it. Leaves nothing behind on failure, except, for
   * `keepUnfinishedMs`, the content that a retry can resume from. `subject` is the key for `transfer`.
   */
  async #ingest({ manifest: found, names, source }: FoundImage, subject: string, signal: AbortSignal): Promise<Image> {
    const { bytes, contentType, isPlatformInConfig } = found;
    const digest = digestOf(bytes);
    const object = `Manifest ${digest}`;
    const manifest = parseManifest(bytes, contentType, object);
    if (manifest.kind === "index") throw imageErrors.unsupported({ object, problem: "it is a nested index" });
    const descriptor = { mediaType: manifest.mediaType, digest, size: bytes.length };
    const lease = (diffIds: readonly Digest[]) => this.#inventory.lease(needsOf(descriptor, manifest, diffIds));
    const leases = [lease([])];
    let isUnfinished = false;
    this.#unfinished.drop(digest);
    try {
      const known = this.#current.catalog.manifests.get(digest);
      if (known !== undefined) {
        leases.push(lease(known.document.diffIds));
        return await this.#inventory.queue.run(async () => {
          signal.throwIfAborted();
          return await this.#current.name(known, names);
        });
      }
      const config = await source.read(manifest.config, signal);
      const document = parseImageConfig(config, `Image config ${manifest.config.digest}`);
      checkConfig(manifest, document, object);
      if (isPlatformInConfig) checkPlatform(document, this.#options.platform, object);
      leases.push(lease(document.diffIds));
      this.#transfers.set(subject, manifest.layers);
      await this.#fetchLayers(manifest, document.diffIds, source, signal);
      const cover = await this.#inventory.addCover(document.diffIds, signal);
      await this.#inventory.addBlob(config);
      await this.#inventory.addBlob(bytes);
      return await this.#commit({ descriptor, manifest, document, cover }, names, signal);
    } catch (error) {
      // Before the layers are known, nothing has arrived that is worth keeping.
      const areLayersKnown = leases.length > 1;
      isUnfinished = areLayersKnown && isWorthAnotherPull(error, signal) && !this.#closing.aborted;
      if (isOutOfRoom(error)) this.#unfinished.dropAll();
      throw error;
    } finally {
      this.#transfers.delete(subject);
      if (isUnfinished) this.#unfinished.keep(digest, leases);
      else for (const each of leases) each.release();
      if (!this.#current.catalog.manifests.has(digest)) await this.#collect();
    }
  }

  /** Fetches all layers concurrently, within the inventory's limits; the first failure stops the others. */
  async #fetchLayers(
    manifest: Manifest,
    diffIds: readonly Digest[],
    source: ContentSource,
    signal: AbortSignal,
  ): Promise<void> {
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const fetches = manifest.layers.map(async (layer, index) => {
      const diffId = diffIds[index];
      if (diffId !== undefined) await this.#inventory.addLayer(layer, diffId, source, either);
    });
    try {
      await Promise.all(fetches);
    } catch (error) {
      stop.abort(error);
      await Promise.allSettled(fetches);
      throw error;
    }
  }

  /** If an image already has the first of these names, it gets the others. */
  async #nameAgain(names: ImageNames, signal: AbortSignal): Promise<Image | undefined> {
    return await this.#inventory.queue.run(async () => {
      signal.throwIfAborted();
      const stored = this.#current.catalog.resolve(names[0])?.stored;
      return stored && (await this.#current.name(stored, names));
    });
  }

  /** Once this resolves the image exists, also after a power cut. */
  #commit(stored: StoredManifest, names: readonly string[], signal: AbortSignal): Promise<Image> {
    return this.#inventory.queue.run(async () => {
      signal.throwIfAborted();
      return await this.#current.name(stored, names, () => this.#inventory.flush(stored));
    });
  }
}
