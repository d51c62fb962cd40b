// The content of an archive of images (OCI image-spec image-layout.md): their part of the store's own layout.

import type { Catalog } from "./catalog.ts";
import { imageErrors } from "./errors.ts";
import type { Inventory } from "./inventory.ts";
import type { Layout } from "./layout.ts";
import { blobsOf, type Descriptor, ociIndexType } from "./manifest.ts";
import { containerdNameAnnotation, nameAnnotation } from "./names.ts";
import { type Needs, needsOf } from "./needs.ts";
import type { Digest, HeldArchive } from "./types.ts";

/** The content is leased from `inventory` until the archive is released. Throws noSuchImage. */
export function holdArchive(
  references: readonly string[],
  catalog: Catalog,
  inventory: Pick<Inventory, "lease">,
  layout: Layout,
): HeldArchive {
  const manifests: object[] = [];
  const blobs = new Map<Digest, Descriptor>();
  const needs: Needs[] = [];
  for (const reference of new Set(references)) {
    const { stored, name } = catalog.resolve(reference) ?? {};
    if (stored === undefined) throw imageErrors.noSuchImage({ reference });
    const { descriptor, manifest } = stored;
    const annotations = name && { [nameAnnotation]: name, [containerdNameAnnotation]: name };
    manifests.push({ ...descriptor, ...(annotations && { annotations }) });
    for (const blob of blobsOf(descriptor, manifest)) blobs.set(blob.digest, blob);
    needs.push(needsOf(descriptor, manifest, []));
  }
  const leases = needs.map((each) => inventory.lease(each));
  return {
    index: Buffer.from(`${JSON.stringify({ schemaVersion: 2, mediaType: ociIndexType, manifests })}\n`),
    blobs: [...blobs.values()].map(({ digest, size }) => ({ digest, size, path: layout.blob(digest) })),
    release: () => {
      for (const lease of leases) lease.release();
    },
  };
}
