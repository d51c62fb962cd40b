// The image config (OCI image-spec config.md): what containers are made from, and the layers' diff ids.

import { parseDigest } from "./digest.ts";
import { type JsonObject, MalformedJson } from "./json.ts";
import { readDocument } from "./manifest.ts";
import { type Platform, readPlatform } from "./platform.ts";
import type { Digest, ImageConfig } from "./types.ts";

export interface ImageConfigDocument {
  readonly config: ImageConfig;
  readonly platform: Platform;
  /** Digests of the inflated layers, bottom first. */
  readonly diffIds: readonly Digest[];
}

/** Parses an image's config. `object` is the words for messages. Throws FailedPrecondition. */
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

function readConfig(config: JsonObject | undefined): ImageConfig {
  return {
    env: config?.strings("Env") ?? [],
    entrypoint: config?.strings("Entrypoint") ?? [],
    cmd: config?.strings("Cmd") ?? [],
    workingDir: config?.string("WorkingDir") ?? "",
    user: config?.string("User") ?? "",
    volumes: config?.object("Volumes")?.keys() ?? [],
    stopSignal: config?.string("StopSignal") ?? "",
    labels: config?.texts("Labels") ?? new Map(),
  };
}
