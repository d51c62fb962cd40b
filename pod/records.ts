// What of pods and containers outlives the daemon: one JSON file each below `<root>/state/`.
//
// A record is replaced by rename, so a reader sees the old one or the new one. It is not flushed:
// it has to survive the daemon's death, and after a power cut no pod lives that it could describe.

import { createHash } from "node:crypto";
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
  /** Older daemons did not record it. */
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

/** A record that is there and cannot be read: its pod is not to be touched. */
export interface Unreadable {
  readonly name: string;
  readonly id: string;
  readonly reason: string;
}

export interface LoadedRecords {
  readonly records: readonly ObjectRecord[];
  /** Names of files that are not whole, which are removed. */
  readonly damaged: readonly string[];
  readonly unreadable: readonly Unreadable[];
}

const formatVersion = 2;

interface Pending {
  record: ObjectRecord;
  readonly done: Promise<void>;
}

export class Records {
  readonly #directory: string;
  /** The write that has not begun yet, for each id: later saves replace its record. */
  readonly #pending = new Map<string, Pending>();
  readonly #running = new Map<string, Promise<void>>();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async open(directory: string): Promise<Records> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return new Records(directory);
  }

  /** Resolves when this record or a newer one of the same object is in place. */
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
    await changeFiles([{ kind: "remove", path: this.#path(id) }]);
  }

  /** Resolves when everything handed in so far is in place, or could not be put there. */
  async idle(): Promise<void> {
    const pending = [...this.#pending.values()].map(({ done }) => done);
    await Promise.allSettled([...pending, ...this.#running.values()]);
  }

  /** Nothing about one file keeps the others from being read. */
  async load(): Promise<LoadedRecords> {
    const records: ObjectRecord[] = [];
    const damaged: string[] = [];
    const unreadable: Unreadable[] = [];
    const names = await readdir(this.#directory);
    const whole = names.filter((name) => name.endsWith(".json"));
    const files = await readFiles(whole.map((name) => join(this.#directory, name)));
    for (const [index, name] of whole.entries()) {
      const file = files[index];
      if (file === undefined || "error" in file) {
        unreadable.push({ name, id: basename(name, ".json"), reason: messageOf(file?.error) });
        continue;
      }
      const record = decode(file.bytes.toString());
      if (record === undefined) damaged.push(name);
      else records.push(record);
    }
    const drafts = names.filter((name) => !name.endsWith(".json"));
    await Promise.allSettled([...drafts, ...damaged].map((name) => rm(join(this.#directory, name), { force: true })));
    return { records, damaged, unreadable };
  }

  async #write(pending: Pending): Promise<void> {
    const { record } = pending;
    this.#pending.delete(record.id);
    const writing = replaceFile(this.#path(record.id), encode(record), "nothing");
    this.#running.set(record.id, writing);
    try {
      await writing;
    } finally {
      if (this.#running.get(record.id) === writing) this.#running.delete(record.id);
    }
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}

function encode(record: ObjectRecord): string {
  const body = JSON.stringify(record, tag);
  return JSON.stringify({ version: formatVersion, sha256: checksum(body), body });
}

/** Undefined for anything but a whole record, of this version or the one before. */
function decode(text: string): ObjectRecord | undefined {
  try {
    const file: unknown = JSON.parse(text);
    if (!isObject(file) || typeof file.body !== "string" || checksum(file.body) !== file.sha256) return undefined;
    const body: unknown = JSON.parse(file.body, untag);
    const record = file.version === 1 ? fromVersion1(body) : file.version === formatVersion ? body : undefined;
    return isRecord(record) ? record : undefined;
  } catch {
    return undefined;
  }
}

/** Version 1 knew of a sandbox whether it was ready, and nothing of what had been begun. */
function fromVersion1(body: unknown): unknown {
  if (!isObject(body)) return undefined;
  if (body.kind === "container") return { ...body, removing: false };
  const life: SandboxLife = body.ready === true ? "ready" : "stopped";
  return { ...body, life };
}

/** The checksum vouches for the rest: only this file writes records. */
function isRecord(value: unknown): value is ObjectRecord {
  return isObject(value) && (value.kind === "sandbox" || value.kind === "container") && typeof value.id === "string";
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function checksum(body: string): string {
  return createHash("sha256").update(body).digest("hex");
}

/** JSON has no bigint, Map or bytes: they stand as one-member objects. Buffer's own toJSON has run before. */
function tag(this: unknown, key: string, value: unknown): unknown {
  const raw = isObject(this) ? this[key] : undefined;
  if (Buffer.isBuffer(raw)) return { $bytes: raw.toString("base64") };
  if (typeof value === "bigint") return { $bigint: value.toString() };
  if (value instanceof Map) return { $map: [...value] };
  return value;
}

function untag(_key: string, value: unknown): unknown {
  if (!isObject(value)) return value;
  if (typeof value.$bytes === "string") return Buffer.from(value.$bytes, "base64");
  if (typeof value.$bigint === "string") return BigInt(value.$bigint);
  if (Array.isArray(value.$map)) return new Map(value.$map);
  return value;
}
