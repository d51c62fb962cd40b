// The image config (OCI image-spec config.md): the defaults for containers, and the layers' diff ids.
//
// Bounds: the document (`documentLimit` of manifest.ts, its shape in native/json), which bounds environment, arguments
// and labels; in this file, values that image lists repeat (`userLimit`) and those that become a mount each
// (`volumeLimit`). Labels are passed to clients and never interpreted.

import { type JsonReader, MalformedJson } from "../native/index.ts";
import { parseDigest } from "./digest.ts";
import { imageErrors } from "./errors.ts";
import { type Manifest, readDocument } from "./manifest.ts";
import { fitness, formatPlatform, type Platform, readPlatform } from "./platform.ts";
import type { Digest, ImageConfig } from "./types.ts";

export interface ImageConfigDocument {
  readonly config: ImageConfig;
  readonly platform: Platform;
  /** Digests of the inflated layers, bottom first. */
  readonly diffIds: readonly Digest[];
}

/** Parses an image's config. `object` names it in messages. Throws FailedPrecondition. */
export function parseImageConfig(bytes: Buffer, object: string): ImageConfigDocument {
  return readDocument(object, bytes, (document) => ({
    config: readConfig(document.object("config")),
    platform: readPlatform(document),
    diffIds: (document.object("rootfs")?.strings("diff_ids") ?? []).map((text) => {
      const diffId = parseDigest(text);
      if (diffId === undefined) throw new MalformedJson(`"${text.slice(0, 100)}" is not a sha256 digest`);
      return diffId;
    }),
  }));
}

/** Throws unless the config matches the manifest. */
export function checkConfig(manifest: Manifest, { diffIds }: ImageConfigDocument, object: string): void {
  if (diffIds.length === manifest.layers.length) return;
  const problem = `it has ${manifest.layers.length} layers and its config ${diffIds.length} diff ids`;
  throw imageErrors.malformed({ object, problem });
}

/** Throws unless the image's config names a platform that runs here. Many cross-built images name the wrong one. */
export function checkPlatform({ platform: built }: ImageConfigDocument, platform: Platform, object: string): void {
  const isAnywhere = built.os === "" || built.architecture === "";
  if (!isAnywhere && fitness(built, platform) === 0) {
    throw imageErrors.noPlatform({ object, platform: formatPlatform(platform), offered: formatPlatform(built) });
  }
}

/** Characters; useradd(8) stops at 32 for each of user and group. */
const userLimit = 256;
/** Characters: PATH_MAX. */
const pathLimit = 4096;
const signalLimit = 64;
const volumeLimit = 256;

function readConfig(config: JsonReader | undefined): ImageConfig {
  const volumes = config?.object("Volumes")?.keys() ?? [];
  if (volumes.length > volumeLimit) throw new MalformedJson(`it has more than ${volumeLimit} volumes`);
  if (volumes.some((volume) => volume.length > pathLimit)) {
    throw new MalformedJson(`it has a volume whose path is longer than ${pathLimit} characters`);
  }
  return {
    env: config?.strings("Env") ?? [],
    entrypoint: config?.strings("Entrypoint") ?? [],
    cmd: config?.strings("Cmd") ?? [],
    workingDir: shortText(config, "WorkingDir", pathLimit),
    user: shortText(config, "User", userLimit),
    volumes,
    stopSignal: shortText(config, "StopSignal", signalLimit),
    labels: config?.texts("Labels") ?? new Map(),
  };
}

function shortText(config: JsonReader | undefined, key: string, limit: number): string {
  const text = config?.string(key) ?? "";
  if (text.length > limit) throw new MalformedJson(`its ${key} is longer than ${limit} characters`);
  return text;
}
