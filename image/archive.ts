// Images from an archive: an OCI image layout (image-spec image-layout.md) or the output of `docker save`.
//
// Bounds: images (`imageLimit`), names per image (`namesLimit`), layers per image (`layerLimit`), each document
// (`documentLimit`) and all documents that are read before the first image is imported (`documentsLimit`). A layer that
// several images share is hashed once.

import type { Writable } from "node:stream";
import { type JsonReader, MalformedJson, readJsonList } from "../native/index.ts";
import { type ArchiveFiles, compressionOf, magicLength } from "./archive-files.ts";
import { parseImageConfig } from "./config.ts";
import { digestOf, hexOf } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import {
  type Descriptor,
  documentLimit,
  type FoundManifest,
  type IndexEntry,
  layerLimit,
  ManifestSearch,
  ociConfigType,
  ociIndexType,
  ociLayerType,
  ociManifestType,
  parseManifest,
} from "./manifest.ts";
import { containerdNameAnnotation, nameAnnotation } from "./names.ts";
import type { Platform } from "./platform.ts";
import { formatReference, parseReference } from "./reference.ts";
import { writeInto } from "./sink.ts";
import { type ContentSource, checkBlob, type FoundImage } from "./source.ts";
import type { Digest } from "./types.ts";

const imageLimit = 1000;
const namesLimit = 1000;
/** Bytes. */
const documentsLimit = 64 * 1024 * 1024;

/** Finds the archive's images. `file` is the archive's path, for messages. Throws InvalidArgument. */
export async function archivedImages(
  files: ArchiveFiles,
  file: string,
  platform: Platform,
  signal: AbortSignal,
): Promise<readonly FoundImage[]> {
  const reader = new ArchiveReader(files, file, platform, signal);
  // Recent Docker versions write both; only the OCI part preserves digests.
  if ((await files.size("index.json")) !== undefined) return reader.ociImages();
  if ((await files.size("manifest.json")) !== undefined) return reader.dockerImages();
  throw imageErrors.badArchive({ file, problem: "it has neither index.json nor manifest.json" });
}

class ArchiveReader {
  readonly #files: ArchiveFiles;
  readonly #file: string;
  readonly #platform: Platform;
  readonly #signal: AbortSignal;
  /** Digests of compressed layers, by the names of their files. */
  readonly #digests = new Map<string, Digest>();
  #documentsLength = 0;

  constructor(files: ArchiveFiles, file: string, platform: Platform, signal: AbortSignal) {
    this.#files = files;
    this.#file = file;
    this.#platform = platform;
    this.#signal = signal;
  }

  async ociImages(): Promise<readonly FoundImage[]> {
    const index = parseManifest(await this.#document("index.json"), ociIndexType, `index.json of ${this.#file}`);
    const entries = index.kind === "index" ? index.manifests : [];
    this.#checkImages(entries.length);
    const source = new ArchiveSource(this.#files, this.#file, new Map());
    // A tag list may name one manifest many times.
    const groups = Map.groupBy(entries, (entry) => entry.digest);
    const images: FoundImage[] = [];
    for (const group of groups.values()) {
      const [first] = group;
      if (first === undefined) continue;
      const manifest = await this.#ociManifest(source, first);
      const names = new Set(group.flatMap(ociName));
      this.#checkNames(names.size);
      images.push({ manifest, source, names: [...names] });
    }
    return images;
  }

  async dockerImages(): Promise<readonly FoundImage[]> {
    const bytes = await this.#document("manifest.json");
    try {
      const entries = readJsonList(bytes);
      this.#checkImages(entries.length);
      const images: FoundImage[] = [];
      for (const entry of entries) images.push(await this.#dockerImage(entry));
      return images;
    } catch (error) {
      if (error instanceof MalformedJson) {
        throw imageErrors.malformed({ object: `manifest.json of ${this.#file}`, problem: error.message }, error);
      }
      throw error;
    }
  }

  async #ociManifest(source: ContentSource, entry: Descriptor): Promise<FoundManifest> {
    const object = `${entry.digest} of ${this.#file}`;
    this.#countDocument(entry.size);
    const bytes = await source.read(entry, this.#signal);
    const document = parseManifest(bytes, entry.mediaType, object);
    if (document.kind === "manifest") return { bytes, contentType: entry.mediaType };
    const search = new ManifestSearch(this.#platform, object, async (chosen) => {
      this.#countDocument(chosen.size);
      return { bytes: await source.read(chosen, this.#signal), contentType: chosen.mediaType };
    });
    return await search.find(document);
  }

  /** `docker save` writes no OCI manifest, so one is generated for the config and layers as they are. */
  async #dockerImage(entry: JsonReader): Promise<FoundImage> {
    const configName = entry.string("Config") ?? "";
    const config = await this.#document(configName);
    const { diffIds } = parseImageConfig(config, `${configName} of ${this.#file}`);
    const layerNames = entry.strings("Layers");
    if (layerNames.length !== diffIds.length) {
      throw new MalformedJson(`it lists ${layerNames.length} layers and the config ${diffIds.length}`);
    }
    if (diffIds.length > layerLimit) throw new MalformedJson(`it has more than ${layerLimit} layers`);
    const tags = entry.strings("RepoTags");
    this.#checkNames(tags.length);
    const members = new Map<Digest, string>();
    const layers: Descriptor[] = [];
    for (const [index, diffId] of diffIds.entries()) {
      const descriptor = await this.#dockerLayer(layerNames[index] ?? "", diffId);
      layers.push(descriptor);
      members.set(descriptor.digest, layerNames[index] ?? "");
    }
    const configDescriptor = { mediaType: ociConfigType, digest: digestOf(config), size: config.length };
    members.set(configDescriptor.digest, configName);
    const manifest = { schemaVersion: 2, mediaType: ociManifestType, config: configDescriptor, layers };
    return {
      manifest: { bytes: Buffer.from(JSON.stringify(manifest)), contentType: ociManifestType },
      names: tags.map((name) => formatReference(parseReference(name))),
      source: new ArchiveSource(this.#files, this.#file, members),
    };
  }

  async #dockerLayer(name: string, diffId: Digest): Promise<Descriptor> {
    const size = await this.#files.size(name);
    if (size === undefined) throw missing(this.#file, name);
    const compression = compressionOf(await firstBytes(this.#files, name, Math.min(size, magicLength)));
    // Docker's own layers are plain tars, whose digest is the diff id; other tools may compress them.
    if (compression === undefined) return { mediaType: ociLayerType, digest: diffId, size };
    const digest = this.#digests.get(name) ?? (await this.#files.digest(name, size, this.#signal));
    this.#digests.set(name, digest);
    return { mediaType: `${ociLayerType}+${compression}`, digest, size };
  }

  async #document(name: string): Promise<Buffer> {
    const size = await this.#files.size(name);
    if (size === undefined) throw missing(this.#file, name);
    if (size > documentLimit) throw imageErrors.tooLarge({ object: `${name} of ${this.#file}`, limit: documentLimit });
    this.#countDocument(size);
    return firstBytes(this.#files, name, size);
  }

  #checkImages(count: number): void {
    const problem = count === 0 ? "it contains no image" : `it contains more than ${imageLimit} images`;
    if (count === 0 || count > imageLimit) throw imageErrors.badArchive({ file: this.#file, problem });
  }

  #checkNames(count: number): void {
    const problem = `one of its images has more than ${namesLimit} names`;
    if (count > namesLimit) throw imageErrors.badArchive({ file: this.#file, problem });
  }

  /** Called before a document of `length` bytes is read. */
  #countDocument(length: number): void {
    this.#documentsLength += length;
    const object = `All manifests and configs of ${this.#file} together`;
    if (this.#documentsLength > documentsLimit) throw imageErrors.tooLarge({ object, limit: documentsLimit });
  }
}

class ArchiveSource implements ContentSource {
  readonly #files: ArchiveFiles;
  readonly #file: string;
  readonly #members: ReadonlyMap<Digest, string>;

  /** `members` maps blobs to their files where these are not in the place that an OCI layout prescribes. */
  constructor(files: ArchiveFiles, file: string, members: ReadonlyMap<Digest, string>) {
    this.#files = files;
    this.#file = file;
    this.#members = members;
  }

  get origin(): string {
    return this.#file;
  }

  async read(descriptor: Descriptor): Promise<Buffer> {
    const object = `${descriptor.digest} of ${this.#file}`;
    if (descriptor.size > documentLimit) throw imageErrors.tooLarge({ object, limit: documentLimit });
    const name = await this.#locate(descriptor);
    const bytes = await firstBytes(this.#files, name, descriptor.size);
    checkBlob(bytes, descriptor, object);
    return bytes;
  }

  async copy(descriptor: Descriptor, start: number, sink: Writable, signal: AbortSignal): Promise<void> {
    const name = await this.#locate(descriptor);
    if (descriptor.size === start) {
      sink.end();
      return;
    }
    const object = `Layer ${descriptor.digest} of ${this.#file}`;
    for await (const chunk of await this.#files.stream(name, start, descriptor.size))
      await writeInto(sink, chunk, object, signal);
    sink.end();
  }

  distrust(): boolean {
    return false;
  }

  /** The name of the blob's file, which has the descriptor's size. */
  async #locate(descriptor: Descriptor): Promise<string> {
    const name = this.#members.get(descriptor.digest) ?? `blobs/sha256/${hexOf(descriptor.digest)}`;
    const size = await this.#files.size(name);
    if (size === undefined) throw missing(this.#file, name);
    if (size !== descriptor.size) {
      throw imageErrors.sizeMismatch({ object: `${name} of ${this.#file}`, actual: size, expected: descriptor.size });
    }
    return name;
  }
}

/**
 * The name of an entry of index.json. The spec allows a bare tag as the annotation, which names no repository;
 * containerd and Docker put the full name into their own annotation.
 */
function ociName(entry: IndexEntry): readonly string[] {
  const written = entry.annotations.get(nameAnnotation) ?? "";
  const name = entry.annotations.get(containerdNameAnnotation) ?? (/[/:]/.test(written) ? written : undefined);
  return name === undefined ? [] : [formatReference(parseReference(name))];
}

function missing(file: string, name: string): Error {
  return imageErrors.badArchive({ file, problem: `it lacks the file "${name.slice(0, 200)}"` });
}

async function firstBytes(files: ArchiveFiles, name: string, length: number): Promise<Buffer> {
  if (length === 0) return Buffer.alloc(0);
  const chunks: Buffer[] = [];
  for await (const chunk of await files.stream(name, 0, length)) chunks.push(chunk);
  return Buffer.concat(chunks);
}
