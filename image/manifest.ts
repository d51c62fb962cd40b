// Manifests and indexes: OCI image-spec manifest.md and image-index.md, and Docker's schema 2 forms of both.
//
// Bounds: the document (`documentLimit`, enforced by the readers; its shape in native/json), layers (`layerLimit`),
// nested indexes (`indexLimit`). The size of a layer is checked where it is fetched (layers.ts).

import { type JsonReader, KeelsonError, MalformedJson, readJsonObject } from "../native/index.ts";
import { parseDigest } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import { fitness, formatPlatform, type Platform, readPlatform } from "./platform.ts";
import type { Digest } from "./types.ts";

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

export interface IndexEntry extends Descriptor {
  readonly platform: Platform | undefined;
  readonly annotations: ReadonlyMap<string, string>;
}

export interface Manifest {
  readonly kind: "manifest";
  readonly mediaType: string;
  readonly config: Descriptor;
  /** Bottom first. */
  readonly layers: readonly Descriptor[];
}

export interface FoundManifest {
  readonly bytes: Buffer;
  /** The media type that the registry or an index gave. */
  readonly contentType: string;
  /** No index on the way to it named its platform: the config does. */
  readonly isPlatformInConfig?: boolean;
}

export interface Index {
  readonly kind: "index";
  readonly manifests: readonly IndexEntry[];
}

/** Largest manifest, index or config that is read, in bytes: the limit of registries themselves. */
export const documentLimit = 4 * 1024 * 1024;
/** Indexes that are searched for one image. */
const indexLimit = 16;
/** The most lower layers that overlayfs accepts (OVL_MAX_STACK). */
export const layerLimit = 500;

export const ociManifestType = "application/vnd.oci.image.manifest.v1+json";
export const ociIndexType = "application/vnd.oci.image.index.v1+json";
export const ociConfigType = "application/vnd.oci.image.config.v1+json";
export const ociLayerType = "application/vnd.oci.image.layer.v1.tar";
const dockerManifestType = "application/vnd.docker.distribution.manifest.v2+json";
const dockerIndexType = "application/vnd.docker.distribution.manifest.list.v2+json";
const dockerConfigType = "application/vnd.docker.container.image.v1+json";

/** The media types to request from a registry. */
export const manifestTypes = [ociManifestType, ociIndexType, dockerManifestType, dockerIndexType] as const;

const manifestKinds: ReadonlyMap<string, "manifest" | "index"> = new Map([
  [ociManifestType, "manifest"],
  [dockerManifestType, "manifest"],
  [ociIndexType, "index"],
  [dockerIndexType, "index"],
]);

const layerTypes: ReadonlySet<string> = new Set([
  ociLayerType,
  `${ociLayerType}+gzip`,
  `${ociLayerType}+zstd`,
  "application/vnd.oci.image.layer.nondistributable.v1.tar",
  "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
  "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
  "application/vnd.docker.image.rootfs.diff.tar",
  "application/vnd.docker.image.rootfs.diff.tar.gzip",
  "application/vnd.docker.image.rootfs.diff.tar.zstd",
  "application/vnd.docker.image.rootfs.foreign.diff.tar",
  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
]);

/**
 * Parses a manifest or an index. `contentType` is the media type that the registry gave ("" when unknown), `object`
 * names the document in messages. A document that could be read as both is refused (CVE-2021-41190), and so is one
 * whose own media type contradicts its content or the registry's. Layer `urls` are ignored: content comes from the
 * registry.
 */
export function parseManifest(bytes: Buffer, contentType: string, object: string): Manifest | Index {
  return readDocument(object, bytes, (document) => {
    if (document.count("schemaVersion") !== 2) {
      throw imageErrors.unsupported({ object, problem: "only schemaVersion 2 is supported, not Docker's schema 1" });
    }
    const hasManifests = document.has("manifests");
    if (hasManifests && (document.has("layers") || document.has("config"))) {
      throw new MalformedJson("it can be read both as a manifest and as an index");
    }
    const kind = hasManifests ? "index" : "manifest";
    const announced = contentType.split(";")[0]?.trim() ?? "";
    for (const type of [announced, document.string("mediaType") ?? ""]) {
      const declared = manifestKinds.get(type);
      if (declared !== undefined && declared !== kind) throw new MalformedJson(`it claims to be ${type} but is not`);
    }
    return kind === "index" ? readIndex(document) : readManifest(document, announced, object);
  });
}

/** All blobs of an image: the manifest itself, its config and its layers. */
export function blobsOf(descriptor: Descriptor, manifest: Manifest): readonly Descriptor[] {
  return [descriptor, manifest.config, ...manifest.layers];
}

/**
 * The entries of an index that match this platform, the best first, and equal ones in index order, as the spec
 * requires; then those without a platform. Throws NotFound when there are none.
 */
export function chooseManifests(index: Index, host: Platform, object: string): readonly IndexEntry[] {
  const images = index.manifests.filter((entry) => manifestKinds.has(entry.mediaType));
  const fitting = images
    .map((entry) => ({ entry, fit: entry.platform === undefined ? 0 : fitness(entry.platform, host) }))
    .filter(({ fit }) => fit > 0)
    .sort((one, other) => other.fit - one.fit);
  const chosen = [...fitting.map(({ entry }) => entry), ...images.filter((entry) => entry.platform === undefined)];
  if (chosen.length > 0) return chosen;
  const offered = images.flatMap((entry) => (entry.platform ? [formatPlatform(entry.platform)] : []));
  throw imageErrors.noPlatform({
    object,
    platform: formatPlatform(host),
    offered: offered.slice(0, 20).join(", ") || "nothing",
  });
}

/** Finds the manifest for this platform, in an index or in those nested in it. */
export class ManifestSearch {
  readonly #host: Platform;
  readonly #object: string;
  readonly #read: (entry: IndexEntry) => Promise<FoundManifest>;
  #indexes = 0;

  /** `object` names the image in messages. */
  constructor(host: Platform, object: string, read: (entry: IndexEntry) => Promise<FoundManifest>) {
    this.#host = host;
    this.#object = object;
    this.#read = read;
  }

  /** Throws NotFound, and Unimplemented for more than `indexLimit` indexes. */
  find(index: Index): Promise<FoundManifest> {
    return this.#find(index, true);
  }

  /** `isPlatformUnknown`: no index above this one named the platform. */
  async #find(index: Index, isPlatformUnknown: boolean): Promise<FoundManifest> {
    if (++this.#indexes > indexLimit) {
      throw imageErrors.unsupported({ object: this.#object, problem: `it contains more than ${indexLimit} indexes` });
    }
    let refused: unknown;
    for (const entry of chooseManifests(index, this.#host, this.#object)) {
      const isPlatformInConfig = isPlatformUnknown && entry.platform === undefined;
      const found = await this.#read(entry);
      const document = parseManifest(found.bytes, found.contentType, `Manifest ${entry.digest}`);
      if (document.kind === "manifest") return { ...found, isPlatformInConfig };
      try {
        return await this.#find(document, isPlatformInConfig);
      } catch (error) {
        if (!(error instanceof KeelsonError && error.name === "noPlatform")) throw error;
        refused = error;
      }
    }
    throw refused;
  }
}

/** Runs a reader over a parsed document, and adds the document's name to the errors that it throws. */
export function readDocument<Result>(object: string, bytes: Buffer, read: (document: JsonReader) => Result): Result {
  try {
    return read(readJsonObject(bytes));
  } catch (error) {
    if (error instanceof MalformedJson) throw imageErrors.malformed({ object, problem: error.message }, error);
    throw error;
  }
}

function readIndex(document: JsonReader): Index {
  const manifests = document.objects("manifests").map((entry) => {
    const platform = entry.object("platform");
    return {
      ...readDescriptor(entry),
      platform: platform === undefined ? undefined : readPlatform(platform),
      annotations: entry.texts("annotations"),
    };
  });
  return { kind: "index", manifests };
}

function readManifest(document: JsonReader, announced: string, object: string): Manifest {
  const config = document.object("config");
  if (config === undefined) throw new MalformedJson("it names no config");
  const descriptor = readDescriptor(config);
  if (descriptor.mediaType !== ociConfigType && descriptor.mediaType !== dockerConfigType) {
    throw imageErrors.unsupported({
      object,
      problem: `its config is ${descriptor.mediaType}, so it is not a container image`,
    });
  }
  const layers = document.objects("layers").map(readDescriptor);
  if (layers.length === 0) throw new MalformedJson("it has no layers");
  if (layers.length > layerLimit) throw new MalformedJson(`it has ${layers.length} layers, more than ${layerLimit}`);
  for (const layer of layers) {
    if (!layerTypes.has(layer.mediaType)) {
      throw imageErrors.unsupported({ object, problem: `its layer ${layer.digest} is ${layer.mediaType}` });
    }
  }
  const declared = document.string("mediaType") ?? announced;
  return {
    kind: "manifest",
    mediaType: manifestKinds.has(declared) ? declared : ociManifestType,
    config: descriptor,
    layers,
  };
}

function readDescriptor(object: JsonReader): Descriptor {
  const text = object.string("digest") ?? "";
  const digest = parseDigest(text);
  if (digest === undefined) throw new MalformedJson(`"${text.slice(0, 100)}" is not a sha256 digest`);
  const size = object.count("size");
  if (size === undefined) throw new MalformedJson(`the descriptor of ${digest} has no size`);
  return { mediaType: object.string("mediaType") ?? "", digest, size };
}
