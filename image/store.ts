// The image store: images by name, their removal, and the containers' writable layers. ingest.ts brings images in.

import { closeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { KeelsonError, SingleFlight, trackWork } from "../native/index.ts";
import { type Catalog, layersOf } from "./catalog.ts";
import { recoverCatalog } from "./catalog-recovery.ts";
import { CurrentCatalog } from "./current-catalog.ts";
import { imageErrors } from "./errors.ts";
import { holdArchive } from "./held-archive.ts";
import { Ingestion, type IngestOptions } from "./ingest.ts";
import { Inventory } from "./inventory.ts";
import type { LayerLimits, Unpack } from "./layers.ts";
import { Layout } from "./layout.ts";
import type { Needs } from "./needs.ts";
import { formatReference, parseName, parseReference } from "./reference.ts";
import { Snapshots } from "./snapshots.ts";
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

export interface StoreOptions extends IngestOptions {
  /** Directory of the store, created when missing: `/var/lib/keelson/image`. */
  readonly root: string;
  readonly unpack: Unpack;
  readonly limits: LayerLimits;
  /** Layers of one pull that are fetched and unpacked in parallel. */
  readonly parallelLayers: number;
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
  readonly #ingestion: Ingestion;
  readonly #closing = new AbortController();
  readonly #working = new Set<Promise<unknown>>();
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
    const collect = () => this.#tracked(this.collect());
    this.#ingestion = new Ingestion(options, { layout, inventory, current, collect, closing: this.#closing.signal });
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
          () => this.#tracked(this.#ingestion.pull(reference, auth, flight)),
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
      return await this.#tracked(this.#ingestion.load(file, AbortSignal.any([signal, this.#closing.signal])));
    } catch (error) {
      this.#refuseIfClosing(error, file);
      throw error;
    }
  }

  /** The reason with which `close` aborts everything names no image. */
  #refuseIfClosing(error: unknown, object: string): void {
    if (error === this.#closing.signal.reason) throw imageErrors.storeClosing({ object }, error);
  }

  transfer(subject: string): Promise<Transfer | undefined> {
    return this.#ingestion.transfer(subject);
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
    this.#ingestion.dropUnfinished();
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
    this.#ingestion.dropUnfinished();
    await Promise.allSettled([...this.#working]);
    await this.#inventory.queue.untilIdle();
    closeSync(this.#lock);
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
