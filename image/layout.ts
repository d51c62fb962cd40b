// The paths below the store's root. The root itself is an OCI image layout (image-spec image-layout.md).
//
//   oci-layout, index.json, blobs/sha256/<hex>   manifests, configs and layers as fetched
//   layers/<diff id>/root, layer.json            unpacked layers, in overlayfs form, and covers (cover.ts)
//   containers/<container id>/                   writable layers
//   staging/                                     unfinished work and pending removals; emptied at start

import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readdir } from "node:fs/promises";
import path from "node:path";
import { replaceFile } from "../native/index.ts";
import { hexOf } from "./digest.ts";
import type { Digest } from "./types.ts";

export class Layout {
  readonly root: string;
  readonly blobs: string;
  readonly layers: string;
  readonly containers: string;
  readonly staging: string;
  readonly index: string;

  constructor(root: string) {
    this.root = root;
    this.blobs = path.join(root, "blobs", "sha256");
    this.layers = path.join(root, "layers");
    this.containers = path.join(root, "containers");
    this.staging = path.join(root, "staging");
    this.index = path.join(root, "index.json");
  }

  blob(digest: Digest): string {
    return path.join(this.blobs, hexOf(digest));
  }

  layer(diffId: Digest): string {
    return path.join(this.layers, hexOf(diffId));
  }

  /** The directory that overlayfs takes as a lower layer. */
  layerRoot(diffId: Digest): string {
    return path.join(this.layer(diffId), "root");
  }

  container(id: string): string {
    return path.join(this.containers, id);
  }

  /** A new path for the head of a blob, which is kept there until the rest is fetched. */
  head(): string {
    return path.join(this.staging, `head-${randomUUID()}`);
  }

  /** A new path to move something to before its removal: on a full disk no directory can be created for it. */
  trash(): string {
    return path.join(this.staging, `trash-${randomUUID()}`);
  }

  /** Creates a directory for one unit of unfinished work. */
  makeStagingDirectory(): Promise<string> {
    return mkdtemp(path.join(this.staging, "work-"));
  }

  /** Creates the directories, accessible only to root: layers contain set-user-ID programs (CVE-2021-41103). */
  async create(): Promise<void> {
    for (const directory of [this.blobs, this.layers, this.containers, this.staging]) {
      await mkdir(directory, { recursive: true, mode: 0o700 });
    }
    const version = "oci-layout";
    if (!(await readdir(this.root)).includes(version)) {
      await replaceFile(path.join(this.root, version), '{"imageLayoutVersion":"1.0.0"}\n', "content and name");
    }
  }
}
