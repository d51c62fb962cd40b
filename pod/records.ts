// Persistent records of pods and containers: one file of JSON lines each below `<root>/state/`.
//
// Each save appends a line, and the last complete line counts; replacing the file at every save would cost 8 to 20
// times as much. A file that has grown long is replaced by rename. Nothing is fsynced: a record must survive the
// daemon's death, but after a power failure no pod is left that it could describe.

import { hash } from "node:crypto";
import { mkdir, readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import type { ImageId } from "../image/types.ts";
import { changeFiles, messageOf, readFiles, replaceFile } from "../native/index.ts";
import type { SandboxLife } from "./sandbox.ts";
import type { ShownImage } from "./shown-image.ts";
import type { PodLabels } from "./spec/selinux.ts";
import type {
  ContainerConfig,
  ContainerId,
  ContainerPhase,
  ContainerUser,
  Resources,
  SandboxConfig,
  SandboxId,
  SandboxMetadata,
  SandboxResources,
} from "./types.ts";

export interface SandboxRecord {
  readonly kind: "sandbox";
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  readonly handler: string;
  readonly createdAt: bigint;
  readonly life: SandboxLife;
  readonly ips: readonly string[];
  readonly monitorPid: number;
  /** Absent in records of older daemons. */
  readonly netnsPath?: string;
  readonly cgroup: string;
  readonly hostname: string;
  readonly labels?: PodLabels;
  readonly resources: SandboxResources;
  readonly timeline: readonly { readonly stage: string; readonly milliseconds: number }[];
}

export interface ContainerRecord {
  readonly kind: "container";
  readonly id: ContainerId;
  readonly sandboxId: SandboxId;
  readonly config: ContainerConfig;
  readonly createdAt: bigint;
  readonly imageId: ImageId;
  /** Absent in records of older daemons. */
  readonly shownImage?: ShownImage;
  readonly user: ContainerUser;
  readonly stopSignal: string;
  readonly seccompFilter?: string;
  readonly phase: ContainerPhase;
  /** Its removal has begun. */
  readonly removing: boolean;
  readonly resources?: Resources;
}

export type ObjectRecord = SandboxRecord | ContainerRecord;

export type PodName = Pick<SandboxMetadata, "name" | "namespace" | "uid">;

/** A record that exists but cannot be read: its pod must not be touched. */
export interface Unreadable {
  readonly name: string;
  readonly id: string;
  readonly reason: string;
  /** From a newer keelson's record of a container, if this version finds it there. */
  readonly sandboxId?: string;
  /** From a newer keelson's record of a sandbox, if this version finds it there. */
  readonly pod?: PodName;
}

export interface LoadedRecords {
  readonly records: readonly ObjectRecord[];
  /** Names of files without a valid record. */
  readonly damaged: readonly string[];
  readonly unreadable: readonly Unreadable[];
}

const formatVersion = 2;
/** A longer file is replaced by one with a single line. */
const longestFileBytes = 32 << 10;

interface Pending {
  record: ObjectRecord;
  readonly done: Promise<void>;
}

export class Records {
  readonly #directory: string;
  /** By id, the write that has not begun yet: later saves replace its record. */
  readonly #pending = new Map<string, Pending>();
  readonly #running = new Map<string, Promise<void>>();
  /** File sizes by id, for files that are known to end with a complete line. */
  readonly #bytes = new Map<string, number>();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async open(directory: string): Promise<Records> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return new Records(directory);
  }

  /** Resolves when this record or a newer one of the same object has been written. */
  async save(record: ObjectRecord): Promise<void> {
    const pending = this.#pending.get(record.id);
    if (pending !== undefined) {
      pending.record = record;
      return await pending.done;
    }
    const before = this.#running.get(record.id) ?? Promise.resolve();
    const next: Pending = { record, done: before.catch(() => undefined).then(() => this.#write(next)) };
    this.#pending.set(record.id, next);
    await next.done;
  }

  async remove(id: string): Promise<void> {
    await (this.#pending.get(id)?.done ?? this.#running.get(id))?.catch(() => undefined);
    this.#bytes.delete(id);
    await changeFiles([{ kind: "remove", path: this.#path(id) }]);
  }

  /** Resolves when every save so far has been written or has failed. */
  async idle(): Promise<void> {
    const pending = [...this.#pending.values()].map(({ done }) => done);
    await Promise.allSettled([...pending, ...this.#running.values()]);
  }

  /** Also removes damaged files, and drafts of files. */
  async load(): Promise<LoadedRecords> {
    const { names, ...loaded } = await readRecords(this.#directory);
    const drafts = names.filter((name) => !name.endsWith(".json"));
    const removed = [...drafts, ...loaded.damaged].map((name) => rm(join(this.#directory, name), { force: true }));
    await Promise.allSettled(removed);
    return loaded;
  }

  async #write(pending: Pending): Promise<void> {
    const { record } = pending;
    this.#pending.delete(record.id);
    const writing = this.#put(record.id, encode(record));
    this.#running.set(record.id, writing);
    try {
      await writing;
    } finally {
      if (this.#running.get(record.id) === writing) this.#running.delete(record.id);
    }
  }

  async #put(id: string, line: Buffer): Promise<void> {
    const path = this.#path(id);
    const before = this.#bytes.get(id) ?? longestFileBytes;
    this.#bytes.delete(id);
    const added = before + line.length <= longestFileBytes && (await isAdded(path, line));
    if (!added) await replaceFile(path, line, "nothing");
    this.#bytes.set(id, added ? before + line.length : line.length);
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}

/** A bad file does not prevent the others from being read. `names`: of all files. */
export async function readRecords(directory: string): Promise<LoadedRecords & { readonly names: readonly string[] }> {
  const records: ObjectRecord[] = [];
  const damaged: string[] = [];
  const unreadable: Unreadable[] = [];
  const names = await readdir(directory);
  const whole = names.filter((name) => name.endsWith(".json"));
  const files = await readFiles(whole.map((name) => join(directory, name)));
  for (const [index, name] of whole.entries()) {
    const file = files[index];
    const id = basename(name, ".json");
    if (file === undefined || "error" in file) {
      unreadable.push({ name, id, reason: messageOf(file?.error) });
      continue;
    }
    const record = decode(file.bytes.toString());
    if (record === undefined) damaged.push(name);
    else if ("kind" in record) records.push(record);
    else unreadable.push({ name, id, ...record });
  }
  return { records, damaged, unreadable, names };
}

/** False when the append failed, for example on a full disk, and the file may now end with an incomplete line. */
async function isAdded(path: string, line: Buffer): Promise<boolean> {
  return await changeFiles([{ kind: "file", path, content: line, isAdded: true }]).then(
    () => true,
    () => false,
  );
}

function encode(record: ObjectRecord): Buffer {
  const body = JSON.stringify(record, tag);
  return Buffer.from(`${JSON.stringify({ version: formatVersion, sha256: checksum(body), body })}\n`);
}

type NewerRecord = Omit<Unreadable, "name" | "id">;

/** The record in the last complete line; undefined when there is none. */
function decode(text: string): ObjectRecord | NewerRecord | undefined {
  for (const line of text.split("\n").reverse()) {
    const file = wholeLine(line);
    if (file !== undefined) return decodeBody(file);
  }
  return undefined;
}

interface WholeLine {
  readonly version: unknown;
  readonly body: string;
}

function wholeLine(line: string): WholeLine | undefined {
  try {
    const file: unknown = JSON.parse(line);
    if (!isObject(file) || typeof file.body !== "string" || checksum(file.body) !== file.sha256) return undefined;
    return { version: file.version, body: file.body };
  } catch {
    return undefined;
  }
}

function decodeBody(line: WholeLine): ObjectRecord | NewerRecord | undefined {
  try {
    const body = untag(JSON.parse(line.body));
    if (typeof line.version === "number" && line.version > formatVersion) return newerRecord(line.version, body);
    const record = line.version === 1 ? fromVersion1(body) : line.version === formatVersion ? body : undefined;
    return isRecord(record) ? record : undefined;
  } catch {
    return undefined;
  }
}

/** Every version has the same line around the body, and a body in JSON. */
function newerRecord(version: number, body: unknown): NewerRecord {
  const reason = `a newer keelson wrote it, in version ${version} of the format; this one reads versions up to ${formatVersion}`;
  if (!isObject(body)) return { reason };
  if (typeof body.sandboxId === "string") return { reason, sandboxId: body.sandboxId };
  const metadata = isObject(body.config) ? body.config.metadata : undefined;
  if (!isObject(metadata)) return { reason };
  const { name, namespace, uid } = metadata;
  if (typeof name !== "string" || typeof namespace !== "string" || typeof uid !== "string") return { reason };
  return { reason, pod: { name, namespace, uid } };
}

/** Version 1 only recorded whether a sandbox was ready, and no operations in progress. */
function fromVersion1(body: unknown): unknown {
  if (!isObject(body)) return undefined;
  if (body.kind === "container") return { ...body, removing: false };
  const life: SandboxLife = body.ready === true ? "ready" : "stopped";
  return { ...body, life };
}

/** The checksum covers the rest, because only this file writes records. */
function isRecord(value: unknown): value is ObjectRecord {
  return isObject(value) && (value.kind === "sandbox" || value.kind === "container") && typeof value.id === "string";
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function checksum(body: string): string {
  return hash("sha256", body);
}

/** Encodes bigint, Map and bytes, which JSON lacks, as one-member objects. Buffer's own toJSON has already run. */
function tag(this: unknown, key: string, value: unknown): unknown {
  const raw = isObject(this) ? this[key] : undefined;
  if (Buffer.isBuffer(raw)) return { $bytes: raw.toString("base64") };
  if (typeof value === "bigint") return { $bigint: value.toString() };
  if (value instanceof Map) return { $map: [...value] };
  return value;
}

/**
 * Not a JSON.parse reviver, which takes twice as long because it is called for each value, most of which are strings.
 */
function untag(value: unknown): unknown {
  if (!isObject(value)) return value;
  for (const [key, held] of Object.entries(value)) if (isObject(held)) value[key] = untag(held);
  if (typeof value.$bytes === "string") return Buffer.from(value.$bytes, "base64");
  if (typeof value.$bigint === "string") return BigInt(value.$bigint);
  if (Array.isArray(value.$map)) return new Map(value.$map);
  return value;
}
