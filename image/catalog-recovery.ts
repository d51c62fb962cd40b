// Rebuilds the catalog from disk when the store is opened.

import { rename } from "node:fs/promises";
import { messageOf } from "../native/index.ts";
import { Catalog, type StoredManifest } from "./catalog.ts";
import { parseImageConfig } from "./config.ts";
import { imageErrors } from "./errors.ts";
import type { Inventory } from "./inventory.ts";
import type { Layout } from "./layout.ts";
import { type Descriptor, parseManifest } from "./manifest.ts";
import { readNames, writeNames } from "./names.ts";
import { checkBlob } from "./source.ts";
import type { Digest } from "./types.ts";

/** Rebuilds the catalog from disk; an incomplete image is dropped and reported. */
export async function recoverCatalog(
  layout: Layout,
  inventory: Inventory,
  onProblem: (sentence: string) => void,
): Promise<Catalog> {
  const names = await readNames(layout.index).catch(async (error: unknown) => {
    const aside = `${layout.index}.damaged`;
    const outcome = await rename(layout.index, aside).then(
      () => `It was renamed to ${aside}`,
      (why: unknown) => `It could not be renamed (${messageOf(why)})`,
    );
    onProblem(`${messageOf(error).replace(/\.?$/, ".")} ${outcome}; images must be pulled again.`);
    return [];
  });
  const manifests = new Map<Digest, StoredManifest>();
  const groups = Map.groupBy(names, (entry) => entry.manifest.digest);
  for (const [digest, group] of groups) {
    const [entry] = group;
    if (entry === undefined) continue;
    try {
      manifests.set(digest, await recoverManifest(inventory, entry.manifest));
    } catch (error) {
      const reason = messageOf(error);
      const called = group.flatMap(({ name }) => name ?? []).join(", ") || digest;
      onProblem(`The image ${called} is incomplete on disk and was dropped; pull it again. ${reason}`);
    }
  }
  const catalog = new Catalog(layout, names, manifests);
  if (catalog.names.length !== names.length) {
    await writeNames(layout.index, catalog.names).catch((error: unknown) => {
      onProblem(`The list of images could not be updated, and will be recovered again at the next start. ${error}`);
    });
  }
  return catalog;
}

async function recoverManifest(inventory: Inventory, descriptor: Descriptor): Promise<StoredManifest> {
  const object = `Manifest ${descriptor.digest}`;
  const bytes = await inventory.readBlob(descriptor.digest);
  checkBlob(bytes, descriptor, object);
  const manifest = parseManifest(bytes, descriptor.mediaType, object);
  if (manifest.kind === "index") throw imageErrors.unsupported({ object, problem: "it is an index" });
  const config = await inventory.readBlob(manifest.config.digest);
  checkBlob(config, manifest.config, `Image config ${manifest.config.digest}`);
  const document = parseImageConfig(config, `Image config ${manifest.config.digest}`);
  for (const [index, layer] of manifest.layers.entries()) {
    const diffId = document.diffIds[index];
    if (diffId === undefined || !inventory.hasLayer(layer, diffId)) {
      throw new Error(`Its layer ${layer.digest} is missing or damaged.`);
    }
  }
  return { descriptor, manifest, document, cover: inventory.coverOf(document.diffIds) };
}
