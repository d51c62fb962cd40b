// Writable layers of containers: `containers/<id>/{upper,work}` and the list of layers below them.

import { readdir, rename } from "node:fs/promises";
import path from "node:path";
import {
  changeFiles,
  type FileRead,
  type Host,
  isDoneWithin,
  isErrno,
  KeelsonError,
  MalformedJson,
  messageOf,
  readFiles,
  readJsonObject,
  SingleFlight,
  Slots,
} from "../native/index.ts";
import { isDigest } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import type { Layout } from "./layout.ts";
import type { Trash } from "./trash.ts";
import type { Digest, FileSystemUse, Snapshot } from "./types.ts";

const recordName = "snapshot.json";
const idPattern = /^[0-9a-f]{1,64}$/;
/** Milliseconds for which a measured size is reused. */
const freshMs = 10_000;
/** Milliseconds to wait for a measurement: a layer may have millions of files. */
const patienceMs = 500;
/** As `patienceMs`, for the first measurement, when there is no earlier value to return. */
const firstPatienceMs = 2_000;
const parallelMeasurements = 2;

export interface SnapshotPlan {
  /** Top first, at least one. */
  readonly lower: readonly Digest[];
  /** The host's ids of the container's root. */
  readonly root: { readonly uid: number; readonly gid: number };
  /** Ids of the images that the container mounts, and their layers. */
  readonly mounted: readonly string[];
  readonly mountedLayers: readonly Digest[];
}

/** snapshot.json: what must stay on disk for a container. */
interface SnapshotRecord {
  /** Layers of its own image and of those that it mounts. */
  readonly layers: readonly Digest[];
  readonly mounted: readonly string[];
}

export interface SnapshotsOptions {
  readonly layout: Layout;
  readonly host: Host;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly trash: Trash;
  /** Called with what cannot be read. */
  readonly onProblem: (sentence: string) => void;
}

export class Snapshots {
  readonly #layout: Layout;
  readonly #host: Host;
  readonly #now: () => number;
  readonly #trash: Trash;
  readonly #onProblem: (sentence: string) => void;
  readonly #records: Map<string, SnapshotRecord>;
  /** All layers, when a snapshot's record could not be read: the snapshot may depend on any of them. */
  readonly #held: readonly Digest[];
  readonly #measured = new Map<string, FileSystemUse>();
  /** Containers whose layer could not be measured, which was reported. */
  readonly #unmeasurable = new Set<string>();
  /** Containers whose measurement is still running after a caller stopped waiting for it. */
  readonly #slow = new Set<string>();
  readonly #measuring = new SingleFlight<FileSystemUse>("abort");
  readonly #slots = new Slots(parallelMeasurements);

  private constructor(
    { layout, host, now, trash, onProblem }: SnapshotsOptions,
    records: Map<string, SnapshotRecord>,
    held: readonly Digest[],
  ) {
    this.#layout = layout;
    this.#host = host;
    this.#now = now;
    this.#trash = trash;
    this.#onProblem = onProblem;
    this.#records = records;
    this.#held = held;
  }

  /** Reads what is on disk, and hands incomplete snapshots to the trash. */
  static async open(options: SnapshotsOptions): Promise<Snapshots> {
    const { layout, trash, onProblem } = options;
    const records = new Map<string, SnapshotRecord>();
    let isOneUnread = false;
    const ids = await readdir(layout.containers);
    const files = await readFiles(ids.map((id) => path.join(layout.container(id), recordName)));
    for (const [index, id] of ids.entries()) {
      const directory = layout.container(id);
      try {
        const record = parseRecord(files[index]);
        if (record === undefined) trash.defer([await putAside(layout, directory)]);
        else records.set(id, record);
      } catch (error) {
        isOneUnread = true;
        onProblem(
          `The record of the writable layer ${directory} could not be read, so the layer is not listed; reading is ` +
            `retried at the next start, and until then all image layers are kept. ${messageOf(error)}`,
        );
      }
    }
    const layers = isOneUnread ? await readdir(layout.layers) : [];
    return new Snapshots(options, records, layers.map((name) => `sha256:${name}`).filter(isDigest));
  }

  ids(): readonly string[] {
    return [...this.#records.keys()];
  }

  layersInUse(): ReadonlySet<Digest> {
    return new Set([...this.#held, ...[...this.#records.values()].flatMap(({ layers }) => layers)]);
  }

  /** A container that mounts the image. */
  mounting(image: string): string | undefined {
    for (const [id, { mounted }] of this.#records) if (mounted.includes(image)) return id;
    return undefined;
  }

  /** Throws AlreadyExists. */
  async prepare(containerId: string, plan: SnapshotPlan): Promise<Snapshot> {
    if (!idPattern.test(containerId)) throw imageErrors.invalidContainerId({ container: containerId.slice(0, 100) });
    if (this.#records.has(containerId)) throw imageErrors.snapshotExists({ container: containerId });
    const layers = [...new Set([...plan.lower, ...plan.mountedLayers])];
    const record: SnapshotRecord = { layers, mounted: plan.mounted };
    // From now on the layers are needed, even if the image is removed in the meantime.
    this.#records.set(containerId, record);
    const directory = this.#layout.container(containerId);
    try {
      return await this.#make(directory, plan, record);
    } catch (error) {
      await this.#host.removeTree(directory);
      this.#records.delete(containerId);
      throw error;
    }
  }

  /**
   * A missing snapshot is fine, and so is content that cannot be removed (an immutable file): it is left to the trash.
   */
  async remove(containerId: string): Promise<void> {
    if (!this.#records.has(containerId)) return;
    const aside = this.#layout.trash();
    await rename(this.#layout.container(containerId), aside).catch(ignoreMissing);
    this.#records.delete(containerId);
    this.#measured.delete(containerId);
    this.#unmeasurable.delete(containerId);
    await this.#trash.remove([aside]);
  }

  /**
   * The use of one layer, at most `freshMs` old; the last known value if measuring fails or takes long. Throws
   * NotFound, and Unavailable if measuring takes long and there is no earlier value.
   */
  async use(containerId: string): Promise<FileSystemUse> {
    const known = this.#measured.get(containerId);
    if (known !== undefined && this.#isFresh(known)) return known;
    if (!this.#records.has(containerId)) throw imageErrors.noSnapshot({ container: containerId });
    const measuring = this.#measuring.join(containerId, new AbortController().signal, (signal) =>
      this.#slots.run(() => this.#measure(containerId), signal),
    );
    try {
      const isFirst = known === undefined && !this.#slow.has(containerId);
      if (await isDoneWithin(measuring, isFirst ? firstPatienceMs : patienceMs)) return await measuring;
    } catch (error) {
      if (isNotThere(error)) throw error;
      this.#reportUnmeasurable(containerId, error);
      if (known === undefined) throw error;
      return known;
    }
    this.#slow.add(containerId);
    if (known === undefined) throw imageErrors.snapshotUnmeasured({ container: containerId });
    return known;
  }

  /**
   * The sum of all layers. A layer that is being created or removed counts as empty, and one that could not be measured
   * yet is skipped: without any answer, the kubelet would free no space on the node.
   */
  async totalUse(): Promise<FileSystemUse> {
    const uses = await Promise.all(this.ids().map((id) => this.use(id).catch(() => undefined)));
    let usedBytes = 0n;
    let inodesUsed = 0n;
    for (const use of uses) {
      usedBytes += use?.usedBytes ?? 0n;
      inodesUsed += use?.inodesUsed ?? 0n;
    }
    return this.#stamped(usedBytes, inodesUsed);
  }

  async #make(directory: string, { lower, root }: SnapshotPlan, record: SnapshotRecord): Promise<Snapshot> {
    const [top] = lower;
    if (top === undefined) throw new Error("a snapshot needs a layer below it");
    const upper = path.join(directory, "upper");
    const work = path.join(directory, "work");
    const like = this.#layout.layerRoot(top);
    try {
      await changeFiles([
        { kind: "directory", path: directory, mode: 0o700 },
        // The upper directory's owner and mode are what the container sees at its root.
        { kind: "directory like", path: upper, like, ...root },
        { kind: "directory", path: work, mode: 0o700 },
        // The record comes last: a directory that has one is complete.
        { kind: "file", path: path.join(directory, recordName), content: JSON.stringify(record), mode: 0o600 },
      ]);
    } catch (error) {
      const isLayer = error instanceof Error && "path" in error && error.path === like;
      throw isLayer && isMissing(error) ? imageErrors.layerMissing({ layer: top }, error) : error;
    }
    return { lower: lower.map((diffId) => this.#layout.layerRoot(diffId)), upper, work };
  }

  #isFresh({ timestamp }: FileSystemUse): boolean {
    const ageMs = this.#now() - Number(timestamp / 1_000_000n);
    // Without the lower bound, a value from before the clock was set back would stay fresh until the clock catches up.
    return ageMs >= 0 && ageMs < freshMs;
  }

  async #measure(containerId: string): Promise<FileSystemUse> {
    const upper = path.join(this.#layout.container(containerId), "upper");
    const usage = await this.#host.diskUsage(upper).finally(() => this.#slow.delete(containerId));
    const use = this.#stamped(usage.bytes, usage.inodes);
    if (this.#records.has(containerId)) this.#measured.set(containerId, use);
    this.#unmeasurable.delete(containerId);
    return use;
  }

  #reportUnmeasurable(containerId: string, error: unknown): void {
    if (this.#unmeasurable.has(containerId)) return;
    this.#unmeasurable.add(containerId);
    this.#onProblem(
      `The writable layer ${this.#layout.container(containerId)} could not be measured; its last known disk usage is ` +
        `reported instead. ${messageOf(error)}`,
    );
  }

  #stamped(usedBytes: bigint, inodesUsed: bigint): FileSystemUse {
    return { mountpoint: this.#layout.root, usedBytes, inodesUsed, timestamp: BigInt(this.#now()) * 1_000_000n };
  }
}

/** Moves an incomplete snapshot out of the way; returns its path, which is unchanged if it cannot be moved. */
async function putAside(layout: Layout, directory: string): Promise<string> {
  const trash = layout.trash();
  return await rename(directory, trash).then(
    () => trash,
    () => directory,
  );
}

/** Undefined for a missing or incomplete record. Throws when it cannot be read. */
function parseRecord(file: FileRead | undefined): SnapshotRecord | undefined {
  if (file === undefined || "error" in file) {
    if (isMissing(file?.error)) return undefined;
    throw file?.error;
  }
  try {
    const record = readJsonObject(file.bytes);
    const layers = record.strings("layers").filter(isDigest);
    return layers.length > 0 ? { layers, mounted: record.strings("mounted") } : undefined;
  } catch (error) {
    if (error instanceof MalformedJson) return undefined;
    throw error;
  }
}

function isNotThere(error: unknown): boolean {
  return error instanceof KeelsonError && error.code === "NotFound";
}

function isMissing(error: unknown): boolean {
  return isErrno(error, "ENOENT", "ENOTDIR");
}

function ignoreMissing(error: unknown): void {
  if (!isMissing(error)) throw error;
}
