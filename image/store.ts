// The image store: pull, load, list, remove, and the containers' writable layers.

import { closeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { type Host, KeelsonError, SingleFlight, trackWork } from "../native/index.ts";
import { archivedImages } from "./archive.ts";
import { openArchive } from "./archive-files.ts";
import { type Catalog, layersOf, type StoredManifest } from "./catalog.ts";
import { recoverCatalog } from "./catalog-recovery.ts";
import { checkConfig, checkPlatform, parseImageConfig } from "./config.ts";
import { CurrentCatalog } from "./current-catalog.ts";
import { digestOf } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import { holdArchive } from "./held-archive.ts";
import { Inventory } from "./inventory.ts";
import type { LayerLimits, Unpack } from "./layers.ts";
import { Layout } from "./layout.ts";
import { type Descriptor, type Manifest, parseManifest } from "./manifest.ts";
import { type Needs, needsOf } from "./needs.ts";
import type { Platform } from "./platform.ts";
import type { ImageNames, PullOptions } from "./pull.ts";
import { formatReference, normalise, parseName, parseReference, type Reference } from "./reference.ts";
import { Snapshots } from "./snapshots.ts";
import type { ContentSource, FoundImage } from "./source.ts";
import { Trash } from "./trash.ts";
import type {
  Digest,
  FileSystemUse,
  HeldArchive,
  Image,
  ImageId,
  ImageStore,
  RegistryAuth,
  Snapshot,
  SnapshotWish,
  Transfer,
} from "./types.ts";
import { isOutOfRoom, isWorthAnotherPull, UnfinishedPulls } from "./unfinished.ts";

export interface StoreOptions extends PullOptions {
  /** Directory of the store, created when missing: `/var/lib/keelson/image`. */
  readonly root: string;
  readonly host: Host;
  readonly unpack: Unpack;
  /** The node's own, which selects the image of an index. */
  readonly platform: Platform;
  readonly limits: LayerLimits;
  /** Layers of one pull that are fetched and unpacked in parallel. */
  readonly parallelLayers: number;
  /** Milliseconds for which the content of a pull that the network or its caller interrupted is kept for a retry. */
  readonly keepUnfinishedMs: number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Called with what was found damaged at start, and what was done about it. */
  readonly onProblem: (sentence: string) => void;
}

/** Defaults for a node; each value can be overridden in StoreOptions. */
export const storeDefaults = {
  timeouts: { connectMs: 10_000, responseMs: 30_000, stallMs: 60_000, documentMs: 120_000 },
  retry: { tries: 5, firstDelayMs: 200, longestDelayMs: 10_000, longestAskedMs: 300_000 },
  limits: { bytes: 64n * 1024n ** 3n, inodes: 4_000_000n },
  parallelLayers: 4,
  // A kubelet retries after 5 minutes at the latest.
  keepUnfinishedMs: 600_000,
} as const;

/**
 * Opens the store: recovers complete content, and removes the rest in the background, which may take minutes. Throws
 * when another process has it open.
 */
export async function openImageStore(options: StoreOptions): Promise<ImageStore> {
  const layout = new Layout(options.root);
  await layout.create();
  const lock = await options.host.tryLock(path.join(options.root, "lock"));
  if (lock === null) throw imageErrors.storeBusy({ root: options.root });
  try {
    const trash = new Trash({ ...options, layout });
    const inventory = await Inventory.open({ ...options, layout, trash, flushDescriptor: lock });
    const snapshots = await Snapshots.open({ ...options, layout, trash });
    const catalog = await recoverCatalog(layout, inventory, options.onProblem);
    const store = new Store(options, layout, lock, inventory, snapshots, new CurrentCatalog(layout, catalog));
    store.tidy(trash);
    return store;
  } catch (error) {
    closeSync(lock);
    throw error;
  }
}

class Store implements ImageStore {
  readonly #options: StoreOptions;
  readonly #layout: Layout;
  /** The descriptor that holds the lock, and on which syncfs is called; the lock is released when the process exits. */
  readonly #lock: number;
  readonly #inventory: Inventory;
  readonly #snapshots: Snapshots;
  readonly #pulls = new SingleFlight<Image>("abort");
  readonly #unfinished: UnfinishedPulls;
  readonly #closing = new AbortController();
  readonly #working = new Set<Promise<unknown>>();
  /** Layers of the image in progress, by the reference that is pulled or the path that is loaded. */
  readonly #transfers = new Map<string, readonly Descriptor[]>();
  readonly #current: CurrentCatalog;
  #closed: Promise<void> | undefined;

  constructor(
    options: StoreOptions,
    layout: Layout,
    lock: number,
    inventory: Inventory,
    snapshots: Snapshots,
    current: CurrentCatalog,
  ) {
    this.#options = options;
    this.#layout = layout;
    this.#lock = lock;
    this.#inventory = inventory;
    this.#snapshots = snapshots;
    this.#current = current;
    this.#unfinished = new UnfinishedPulls(options.keepUnfinishedMs, () => {
      // Whatever cannot be removed now is removed by the next collection, or at the next start.
      this.#tracked(this.collect()).catch(() => undefined);
    });
  }

  get #catalog(): Catalog {
    return this.#current.catalog;
  }

  list(): readonly Image[] {
    return this.#catalog.images;
  }

  find(reference: string): Image | undefined {
    return this.#catalog.find(reference);
  }

  async document(id: ImageId): Promise<unknown> {
    try {
      return JSON.parse(await readFile(this.#layout.blob(id), "utf8"));
    } catch {
      return null;
    }
  }

  async pull(text: string, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<Image> {
    const reference = parseReference(text);
    const name = formatReference(reference);
    try {
      return await this.#pulls.join(pullKey(name, auth), AbortSignal.any([signal, this.#closing.signal]), (flight) =>
        trackWork(
          "pull",
          () => name,
          () => this.#tracked(this.#pull(reference, auth, flight)),
        ),
      );
    } catch (error) {
      this.#refuseIfClosing(error, name);
      const isOurs = signal.aborted || this.#closing.signal.aborted;
      throw isOurs && !(error instanceof KeelsonError) ? imageErrors.cancelled({ object: name }, error) : error;
    }
  }

  async load(file: string, signal: AbortSignal): Promise<readonly Image[]> {
    try {
      return await this.#tracked(this.#load(file, AbortSignal.any([signal, this.#closing.signal])));
    } catch (error) {
      this.#refuseIfClosing(error, file);
      throw error;
    }
  }

  /** The reason with which `close` aborts everything names no image. */
  #refuseIfClosing(error: unknown, object: string): void {
    if (error === this.#closing.signal.reason) throw imageErrors.storeClosing({ object }, error);
  }

  async transfer(subject: string): Promise<Transfer | undefined> {
    const layers = this.#transfers.get(subject) ?? this.#transfers.get(normalise(subject) ?? "");
    return layers && (await this.#inventory.transfer(layers));
  }

  async tag(reference: string, text: string): Promise<Image> {
    return await this.#inventory.queue.run(async () => {
      const found = this.#catalog.resolve(reference);
      if (found === undefined) throw imageErrors.noSuchImage({ reference });
      return await this.#current.name(found.stored, [parseName(text)]);
    });
  }

  hold(references: readonly string[]): HeldArchive {
    return holdArchive(references, this.#catalog, this.#inventory, this.#layout);
  }

  async remove(reference: string): Promise<void> {
    // The caller wants to free space.
    this.#unfinished.dropAll();
    await this.#inventory.queue.run(async () => {
      const image = this.find(reference);
      if (image === undefined) return;
      const container = this.#snapshots.mounting(image.id);
      if (container !== undefined) throw imageErrors.imageMounted({ image: image.tags[0] ?? image.id, container });
      await this.#current.forget(image.id, () => this.#inventory.collectNow(() => this.#needs()));
    });
    await this.collect();
  }

  async prepareSnapshot(containerId: string, id: ImageId, wish: SnapshotWish = {}): Promise<Snapshot> {
    const { root = { uid: 0, gid: 0 }, mounted = [] } = wish;
    const mountedLayers = mounted.flatMap((image) => this.#layersOf(image));
    return this.#snapshots.prepare(containerId, { lower: this.#layersOf(id), root, mounted, mountedLayers });
  }

  #layersOf(id: ImageId): readonly Digest[] {
    const stored = this.#catalog.manifestOf(id);
    if (stored === undefined) throw imageErrors.noSuchImage({ reference: id });
    return layersOf(stored);
  }

  async removeSnapshot(containerId: string): Promise<void> {
    const before = this.#snapshots.layersInUse();
    await this.#snapshots.remove(containerId);
    // Only the last container of a removed image leaves layers behind.
    const needed = this.#needs().layers;
    if ([...before].some((layer) => !needed.has(layer))) await this.collect();
  }

  snapshotUse(containerId: string): Promise<FileSystemUse> {
    return this.#snapshots.use(containerId);
  }

  snapshots(): readonly string[] {
    return this.#snapshots.ids();
  }

  async fileSystemUse() {
    const { bytes, inodes } = this.#inventory.use();
    const timestamp = BigInt(this.#options.now()) * 1_000_000n;
    const images = { mountpoint: this.#layout.root, usedBytes: bytes, inodesUsed: inodes, timestamp };
    return { images, containers: await this.#snapshots.totalUse() };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** Removes the leftovers of earlier processes, in the background. */
  tidy(trash: Trash): void {
    this.#tracked(Promise.all([this.collect(), trash.removeDeferred()])).catch((error: unknown) => {
      const problem = `Content that no image needs could not be removed, and remains until the next start. ${error}`;
      this.#options.onProblem(problem);
    });
  }

  /** Removes content that neither images nor containers nor pulls need. */
  collect(): Promise<void> {
    return this.#inventory.collect(() => this.#needs());
  }

  async #close(): Promise<void> {
    this.#closing.abort(imageErrors.storeClosing({ object: "The image" }));
    this.#unfinished.dropAll();
    await Promise.allSettled([...this.#working]);
    await this.#inventory.queue.untilIdle();
    closeSync(this.#lock);
  }

  async #pull(reference: Reference, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<Image> {
    // The HTTP client takes a tenth of a second and 10 MB to load: only a daemon that pulls loads it.
    const { findImage, namesBy, openRepository } = await import("./pull.ts");
    const source = await openRepository(reference, auth, this.#options);
    try {
      if (this.#catalog.resolve(formatReference(reference)) !== undefined) {
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

  async #load(file: string, signal: AbortSignal): Promise<readonly Image[]> {
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
   * Imports an image's content, makes it durable, and only then names it. Leaves nothing behind on failure, except, for
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
      const known = this.#catalog.manifests.get(digest);
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
      isUnfinished = areLayersKnown && isWorthAnotherPull(error, signal) && !this.#closing.signal.aborted;
      if (isOutOfRoom(error)) this.#unfinished.dropAll();
      throw error;
    } finally {
      this.#transfers.delete(subject);
      if (isUnfinished) this.#unfinished.keep(digest, leases);
      else for (const each of leases) each.release();
      if (!this.#catalog.manifests.has(digest)) await this.collect();
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
      const stored = this.#catalog.resolve(names[0])?.stored;
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

  #needs(): Needs {
    const { blobs, layers } = this.#catalog.needs();
    return { blobs, layers: new Set([...layers, ...this.#snapshots.layersInUse()]) };
  }

  async #tracked<Result>(task: Promise<Result>): Promise<Result> {
    this.#working.add(task);
    try {
      return await task;
    } finally {
      this.#working.delete(task);
    }
  }
}

/** Equal pulls have one key: the same image requested with the same credentials. */
function pullKey(name: string, auth: RegistryAuth | undefined): string {
  return `${name} ${JSON.stringify(auth ?? null)}`;
}
