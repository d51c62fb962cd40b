// Maps names to manifests: the layout's index.json, the store's only durable record.
//
// Each name is an entry with the annotation org.opencontainers.image.ref.name; a manifest without names has one entry
// without it.

import { readFile } from "node:fs/promises";
import { isErrno, replaceFile } from "../native/index.ts";
import { type Descriptor, ociIndexType, parseManifest } from "./manifest.ts";
import type { Digest } from "./types.ts";

/** The list is rewritten on each change, and read within the bounds of native/json. */
export const nameLimit = 8000;

export const nameAnnotation = "org.opencontainers.image.ref.name";
/** containerd's and Docker's annotation for the full name; they use the specification's for a bare tag. */
export const containerdNameAnnotation = "io.containerd.image.name";

export interface NameEntry {
  readonly manifest: Descriptor;
  /** `registry/repository:tag` or `registry/repository@digest`; undefined for a manifest that has none. */
  readonly name: string | undefined;
}

/** Reads index.json; a missing file is an empty list. Throws FailedPrecondition for a damaged one. */
export async function readNames(file: string): Promise<readonly NameEntry[]> {
  const bytes = await readFile(file).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  });
  if (bytes === undefined) return [];
  const index = parseManifest(bytes, ociIndexType, `The image list ${file}`);
  return index.kind === "index"
    ? index.manifests.map((entry) => ({
        manifest: { mediaType: entry.mediaType, digest: entry.digest, size: entry.size },
        name: entry.annotations.get(nameAnnotation),
      }))
    : [];
}

/** Replaces index.json; durable when it resolves. */
export async function writeNames(file: string, entries: readonly NameEntry[]): Promise<void> {
  const manifests = entries.map(({ manifest, name }) => ({
    ...manifest,
    ...(name !== undefined && { annotations: { [nameAnnotation]: name } }),
  }));
  await replaceFile(
    file,
    `${JSON.stringify({ schemaVersion: 2, mediaType: ociIndexType, manifests }, null, 2)}\n`,
    "content and name",
  );
}

/** Whether `withNames` would change nothing. */
export function hasNames(entries: readonly NameEntry[], manifest: Descriptor, names: readonly string[]): boolean {
  const own = entries.filter((entry) => entry.manifest.digest === manifest.digest);
  return own.length > 0 && names.every((name) => own.some((entry) => entry.name === name));
}

/** Adds names to a manifest; a name of another manifest moves to it. */
export function withNames(
  entries: readonly NameEntry[],
  manifest: Descriptor,
  names: readonly string[],
): readonly NameEntry[] {
  const moved = new Set(names);
  const kept = entries.filter((entry) => entry.name === undefined || !moved.has(entry.name));
  const given = names.map((name) => ({ manifest, name }));
  const all = [...kept, ...given];
  // A manifest that lost its last name, or never had one, keeps an entry: containers may run from it.
  const named = new Set(all.flatMap((entry) => (entry.name === undefined ? [] : [entry.manifest.digest])));
  const nameless = new Map<Digest, NameEntry>();
  for (const entry of [...entries, { manifest, name: undefined }]) {
    if (!named.has(entry.manifest.digest)) {
      nameless.set(entry.manifest.digest, { manifest: entry.manifest, name: undefined });
    }
  }
  return [...all.filter((entry) => entry.name !== undefined), ...nameless.values()];
}
