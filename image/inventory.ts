// The content on disk (blobs and unpacked layers): adding it, flushing it and removing garbage.
//
// Content becomes durable only with the image that names it (store.ts commits); content that no image, pull or
// container needs is garbage at any time, also after a crash.

import { readdir, readFile, rename, stat } from "node:fs/promises";
import path from "node:path";
import { asNodeError, type Host, KeelsonError, messageOf, SingleFlight, Slots, writeFile } from "../native/index.ts";
import type { StoredManifest } from "./catalog.ts";
import { coverIdOf, mayNeedCover, stageCover } from "./cover.ts";
import { digestOf, hexOf, parseDigest } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import { type BlobHead, BlobHeads } from "./heads.ts";
import { LayerPlaces } from "./layer-places.ts";
import {
  blobName,
  type LayerLimits,
  type LayerRecord,
  placeLayer,
  placeUnpacked,
  readLayers,
  stageLayer,
  type Unpack,
} from "./layers.ts";
import type { Layout } from "./layout.ts";
import type { Descriptor } from "./manifest.ts";
import type { Lease, Needs } from "./needs.ts";
import type { ContentSource } from "./source.ts";
import type { Trash } from "./trash.ts";
import type { Digest, Transfer } from "./types.ts";
import { isWorthAnotherPull } from "./unfinished.ts";

/** An entry of the directory of blobs or of layers, whether ours or not. */
interface Entry {
  readonly kind: keyof Needs;
  readonly name: string;
}

export interface InventoryOptions {
  readonly layout: Layout;
  readonly host: Host;
  readonly trash: Trash;
  /** Open on the store's file system since before anything was written: syncfs on it reports every write error. */
  readonly flushDescriptor: number;
  readonly unpack: Unpack;
  readonly limits: LayerLimits;
  /** Layers of one pull that are fetched and unpacked in parallel. */
  readonly parallelLayers: number;
  /** Called with what could not be read at start. */
  readonly onProblem: (sentence: string) => void;
}

export class Inventory {
  readonly #options: InventoryOptions;
  readonly #layers: Map<Digest, LayerRecord>;
  /** Size of each blob in bytes. */
  readonly #blobs: Map<Digest, number>;
  readonly #leases = new Set<Needs>();
  readonly #flights = new SingleFlight<void>("abort");
  readonly #places: LayerPlaces;
  /** Limits walks over layers, which run on a thread each. */
  readonly #walks = new Slots(1);
  /** Serialises everything that moves content in or out or commits an image. */
  readonly queue = new Slots(1);
  /** Staging directories of layers in flight, by blob. */
  readonly #arriving = new Map<Digest, string>();
  /** Heads of missing blobs, kept while the blob is leased. */
  readonly #heads: BlobHeads;
  /** Ids of covers that a check of their stacks found unnecessary; cleared when a layer is removed. */
  readonly #needless = new Set<Digest>();
  /** Placed since the last successful flush. */
  readonly #unflushed = { blobs: new Set<Digest>(), layers: new Set<Digest>() };
  /** The error of the last failed flush. */
  #failedFlush: unknown;

  private constructor(options: InventoryOptions, layers: Map<Digest, LayerRecord>, blobs: Map<Digest, number>) {
    this.#options = options;
    this.#layers = layers;
    this.#blobs = blobs;
    this.#heads = new BlobHeads(options.layout, options.trash);
    this.#places = new LayerPlaces(options.parallelLayers);
  }

  /** Reads what is on disk, and hands unfinished work to the trash. Unreadable content counts as missing. */
  static async open(options: InventoryOptions): Promise<Inventory> {
    const { layout, trash, onProblem } = options;
    const blobs = new Map<Digest, number>();
    for (const name of await readdir(layout.blobs)) {
      const digest = parseDigest(`sha256:${name}`);
      if (digest === undefined) continue;
      try {
        blobs.set(digest, (await stat(layout.blob(digest))).size);
      } catch (error) {
        onProblem(`The blob ${layout.blob(digest)} could not be read and counts as missing. ${messageOf(error)}`);
      }
    }
    const layers = await readLayers(layout, onProblem);
    // The directory itself stays: a full disk may have no room for a new one.
    trash.defer((await readdir(layout.staging)).map((name) => path.join(layout.staging, name)));
    return new Inventory(options, layers, blobs);
  }

  /** Protects content from removal until released; take the lease before checking what is there. */
  lease(needs: Needs): Lease {
    this.#leases.add(needs);
    return { release: () => this.#leases.delete(needs) };
  }

  hasBlob(descriptor: Descriptor): boolean {
    return this.#blobs.get(descriptor.digest) === descriptor.size;
  }

  /** True when the layer is present and this blob was verified to inflate to it. */
  hasLayer(descriptor: Descriptor, diffId: Digest): boolean {
    return this.hasBlob(descriptor) && this.#layers.get(diffId)?.blobs.includes(descriptor.digest) === true;
  }

  /** How much of these blobs has arrived, including partial ones. */
  async transfer(blobs: readonly Descriptor[]): Promise<Transfer> {
    const arrived = await Promise.all(blobs.map((blob) => this.#arrived(blob)));
    const sum = (sizes: readonly number[]) => sizes.reduce((total, size) => total + size, 0);
    return { done: sum(arrived), total: sum(blobs.map(({ size }) => size)) };
  }

  async #arrived({ digest, size }: Descriptor): Promise<number> {
    const staged = this.#arriving.get(digest);
    if (staged === undefined) return this.#blobs.get(digest) === size ? size : 0;
    return await stat(path.join(staged, blobName)).then(
      (found) => found.size,
      () => 0,
    );
  }

  /** Reads a small blob that is present. */
  readBlob(digest: Digest): Promise<Buffer> {
    return readFile(this.#options.layout.blob(digest));
  }

  /** Adds a manifest or a config. */
  async addBlob(bytes: Buffer): Promise<void> {
    const digest = digestOf(bytes);
    await this.#staged(async (directory, throwIfLost) => {
      const draft = path.join(directory, "blob");
      await writeFile(draft, bytes, { mode: 0o600 });
      await this.queue.run(async () => {
        throwIfLost(`Blob ${digest}`);
        // Keep a blob that is already there: an image may depend on it, and it may be flushed.
        if (this.#blobs.get(digest) === bytes.length) return;
        await rename(draft, this.#options.layout.blob(digest));
        this.#blobs.set(digest, bytes.length);
        this.#unflushed.blobs.add(digest);
      });
    });
  }

  /**
   * Fetches and unpacks a layer unless it is present. Concurrent calls for the same layer of the same registry share
   * the work; no caller waits for a registry that it did not name.
   */
  async addLayer(descriptor: Descriptor, diffId: Digest, source: ContentSource, signal: AbortSignal): Promise<void> {
    const key = `${source.origin} ${descriptor.digest} ${diffId}`;
    while (!this.hasLayer(descriptor, diffId)) {
      const isJoining = this.#flights.has(key);
      try {
        await this.#flights.join(key, signal, (flight) =>
          this.#places.run(source, () => this.#fetchLayer(descriptor, diffId, source, flight), flight),
        );
      } catch (error) {
        signal.throwIfAborted();
        // The other caller's credentials may be the cause: try with our own.
        if (!isJoining) throw error;
      }
    }
  }

  async #fetchLayer(descriptor: Descriptor, diffId: Digest, source: ContentSource, signal: AbortSignal): Promise<void> {
    const { digest } = descriptor;
    const head = this.#heads.take(digest);
    try {
      await this.#fetchFrom(head, descriptor, diffId, source, signal);
      // A head left by a concurrent pull from another registry that broke off.
      await this.#heads.remove(digest, this.#heads.take(digest));
    } catch (error) {
      // The head may be the cause (a power cut, another registry): retry once without it. Otherwise the host may be,
      // and another host may have the right content.
      if (isWorthAnotherPull(error, signal)) throw error;
      if (head === undefined && !(isOfContent(error) && source.distrust(descriptor))) throw error;
      // Before the retry, because the disk may be full.
      await this.#heads.remove(digest, head);
      await this.#fetchLayer(descriptor, diffId, source, signal);
    } finally {
      await this.#heads.remove(digest, head);
    }
  }

  async #fetchFrom(
    head: BlobHead | undefined,
    descriptor: Descriptor,
    diffId: Digest,
    source: ContentSource,
    signal: AbortSignal,
  ): Promise<void> {
    const { layout, unpack, limits } = this.#options;
    await this.#staged(async (directory, throwIfLost) => {
      const staging = { descriptor, diffId, source, head, directory, unpack, limits, signal };
      this.#arriving.set(descriptor.digest, directory);
      const staged = await stageLayer(staging).catch(async (error: unknown) => {
        this.#arriving.delete(descriptor.digest);
        if (isWorthAnotherPull(error, signal)) await this.#keepHead(descriptor, path.join(directory, blobName), head);
        throw error;
      });
      await this.queue.run(async () => {
        this.#arriving.delete(descriptor.digest);
        signal.throwIfAborted();
        throwIfLost(`Layer ${descriptor.digest}`);
        // The layer arrived from another registry in the meantime, and may be flushed.
        if (this.hasLayer(descriptor, diffId)) return;
        const known = this.#layers.get(diffId);
        const record = await placeLayer(layout, staged, known, descriptor.digest);
        this.#layers.set(diffId, record);
        this.#blobs.set(descriptor.digest, descriptor.size);
        if (known === undefined) this.#unflushed.layers.add(diffId);
        this.#unflushed.blobs.add(descriptor.digest);
      });
    });
  }

  async #keepHead(descriptor: Descriptor, blob: string, before: BlobHead | undefined): Promise<void> {
    await this.queue.run(async () => {
      // Otherwise it arrived from another registry in the meantime.
      if (!this.hasBlob(descriptor)) await this.#heads.keep(descriptor, blob, before);
    });
  }

  /** Creates the cover of a stack (bottom first), whose layers are fetched and leased; undefined when it needs none. */
  async addCover(diffIds: readonly Digest[], signal: AbortSignal): Promise<Digest | undefined> {
    const { layout, host } = this.#options;
    const cover = coverIdOf(diffIds);
    if (this.#layers.has(cover)) return cover;
    if (!mayNeedCover(diffIds) || this.#needless.has(cover)) return undefined;
    const object = `Layer ${cover}`;
    return await this.#staged(async (directory, throwIfLost) => {
      const hasLayers = () => diffIds.every((diffId) => this.#layers.has(diffId));
      if (!hasLayers()) throw this.#notFlushed(object);
      const staged = await this.#walks
        .run(() => stageCover(diffIds, directory, layout, host), signal)
        .catch((error: unknown) => {
          throwIfLost(object);
          throw error;
        });
      if (staged === undefined) {
        // Otherwise a flush has failed in the meantime, and the content that was checked may have been wrong.
        if (hasLayers()) this.#needless.add(cover);
        return undefined;
      }
      await this.queue.run(async () => {
        throwIfLost(object);
        if (this.#layers.has(cover)) return;
        await placeUnpacked(layout, staged);
        this.#layers.set(cover, staged.record);
        this.#unflushed.layers.add(cover);
      });
      return cover;
    });
  }

  /** The cover of a stack (bottom first), if it is present. */
  coverOf(diffIds: readonly Digest[]): Digest | undefined {
    const cover = coverIdOf(diffIds);
    return this.#layers.has(cover) ? cover : undefined;
  }

  /**
   * Flushes everything placed so far, so that an image that is named afterwards survives a power cut; the caller holds
   * the queue. After a write error, any unflushed content may be damaged: everything placed since the last successful
   * flush is removed, even if leased. Throws Unavailable, also when an earlier failure removed content of this image.
   */
  async flush(image: StoredManifest): Promise<void> {
    const { host, flushDescriptor, layout, trash } = this.#options;
    const object = `Manifest ${image.descriptor.digest}`;
    if (!this.#isComplete(image)) throw this.#notFlushed(object);
    try {
      await host.syncFileSystem(flushDescriptor);
    } catch (error) {
      this.#failedFlush = asNodeError(error, "syncfs", layout.root);
      const { blobs, layers } = this.#unflushed;
      await trash.remove(
        await this.#moveAside([
          ...entries("blobs", [...blobs].map(hexOf)),
          ...entries("layers", [...layers].map(hexOf)),
        ]),
      );
      throw this.#notFlushed(object);
    }
    this.#unflushed.blobs.clear();
    this.#unflushed.layers.clear();
  }

  #isComplete({ descriptor, manifest, document, cover }: StoredManifest): boolean {
    const hasLayers = manifest.layers.every((layer, index) => {
      const diffId = document.diffIds[index];
      return diffId !== undefined && this.hasLayer(layer, diffId);
    });
    const hasCover = cover === undefined || this.#layers.has(cover);
    return hasLayers && hasCover && [descriptor, manifest.config].every(({ digest }) => this.#blobs.has(digest));
  }

  #notFlushed(object: string): KeelsonError {
    return imageErrors.notFlushed({ object, problem: messageOf(this.#failedFlush) }, this.#failedFlush);
  }

  /** Removes all content that is neither leased nor in `needed`, which is evaluated once the queue is held. */
  async collect(needed: () => Needs): Promise<void> {
    await this.#options.trash.remove(await this.queue.run(() => this.#moveGarbage(needed)));
  }

  /** As `collect`, for callers that hold the queue. */
  async collectNow(needed: () => Needs): Promise<void> {
    await this.#options.trash.remove(await this.#moveGarbage(needed));
  }

  /** Moves unneeded content out of the store; returns its new paths. */
  async #moveGarbage(needed: () => Needs): Promise<readonly string[]> {
    const { layout } = this.#options;
    const [blobs, layers] = await Promise.all([readdir(layout.blobs), readdir(layout.layers)]);
    // No await from here until the victims are chosen: a new pull must not rely on one of them.
    const keep = [needed(), ...this.#leases];
    const isNeeded = (kind: keyof Needs, digest: Digest) => keep.some((needs) => needs[kind].has(digest));
    const victims = [...entries("blobs", blobs), ...entries("layers", layers)].filter((entry) => {
      const digest = digestIn(entry);
      return digest === undefined || !isNeeded(entry.kind, digest);
    });
    const heads = this.#heads.leave((digest) => isNeeded("blobs", digest));
    return [...heads, ...(await this.#moveAside(victims))];
  }

  /** Drops content at once and moves it aside; returns its new paths. What cannot be moved is garbage from now on. */
  async #moveAside(victims: readonly Entry[]): Promise<readonly string[]> {
    const { layout, trash } = this.#options;
    if (victims.some(({ kind }) => kind === "layers")) this.#needless.clear();
    for (const entry of victims) {
      const digest = digestIn(entry);
      if (digest === undefined) continue;
      (entry.kind === "blobs" ? this.#blobs : this.#layers).delete(digest);
      this.#unflushed[entry.kind].delete(digest);
    }
    return await trash.moveAside(victims.map(({ kind, name }) => path.join(layout[kind], name)));
  }

  /** Bytes and inodes of all blobs and layers, from memory. */
  use(): { readonly bytes: bigint; readonly inodes: bigint } {
    let bytes = 0n;
    let inodes = BigInt(this.#blobs.size);
    for (const size of this.#blobs.values()) bytes += BigInt(size);
    for (const layer of this.#layers.values()) {
      bytes += layer.unpackedBytes;
      inodes += layer.inodes;
    }
    return { bytes, inodes };
  }

  /**
   * Runs `work` with a staging directory that is always removed afterwards. `throwIfLost` throws if a flush has failed
   * since `work` started: bytes in the directory may be lost.
   */
  async #staged<Result>(
    work: (directory: string, throwIfLost: (object: string) => void) => Promise<Result>,
  ): Promise<Result> {
    const { layout, trash } = this.#options;
    const directory = await layout.makeStagingDirectory();
    const failedBefore = this.#failedFlush;
    try {
      return await work(directory, (object) => {
        if (this.#failedFlush !== failedBefore) throw this.#notFlushed(object);
      });
    } finally {
      await trash.remove([directory]);
    }
  }
}

function entries(kind: Entry["kind"], names: readonly string[]): readonly Entry[] {
  return names.map((name) => ({ kind, name }));
}

/** Undefined for an entry that does not belong there. */
function digestIn({ name }: Entry): Digest | undefined {
  return parseDigest(`sha256:${name}`);
}

/** Whether different bytes might have succeeded: not for a full disk, or a layer that is too large. */
function isOfContent(error: unknown): boolean {
  return error instanceof KeelsonError && (error.code === "FailedPrecondition" || error.code === "InvalidArgument");
}
