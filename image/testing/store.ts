// For tests: a store in its own directory, with the real addon and the real unpacker.

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect } from "vitest";
import { loadHost, nativePaths, unpackLayer } from "../../native/index.ts";
import { openImageStore, type StoreOptions, storeDefaults } from "../store.ts";
import type { ImageStore } from "../types.ts";
import { hostArchitecture } from "./build-image.ts";

export interface TestStore {
  readonly store: ImageStore;
  readonly root: string;
  /** Where hosts.toml files go. */
  readonly hostsDirectory: string;
  /** Problems that the store reported at start. */
  readonly problems: readonly string[];
  /** Reopens the same directory, as after a restart, with these additional options; close the store first. */
  reopen(more?: Partial<StoreOptions>): Promise<TestStore>;
  /** Closes the store and removes its directory. */
  dispose(): Promise<void>;
}

/** Short timeouts and delays, so that tests of failures are fast. */
export const impatient = {
  timeouts: { connectMs: 2000, responseMs: 2000, stallMs: 700, documentMs: 2000 },
  retry: { tries: 3, firstDelayMs: 10, longestDelayMs: 50, longestAskedMs: 2_000 },
  keepUnfinishedMs: 0,
} as const;

export async function openTestStore(options: Partial<StoreOptions> = {}): Promise<TestStore> {
  const directory = await mkdtemp(path.join(tmpdir(), "keelson-store-"));
  return openIn(directory, options);
}

async function openIn(directory: string, options: Partial<StoreOptions>): Promise<TestStore> {
  const root = path.join(directory, "image");
  const hostsDirectory = path.join(directory, "certs.d");
  const problems: string[] = [];
  const store = await openImageStore({
    ...storeDefaults,
    ...impatient,
    root,
    hostsDirectory,
    proxyFor: () => undefined,
    host: loadHost(),
    unpack: (unpackOptions) => unpackLayer(nativePaths().unpacker, unpackOptions),
    platform: { os: "linux", architecture: hostArchitecture, variant: "" },
    now: Date.now,
    onProblem: (sentence) => problems.push(sentence),
    ...options,
  });
  return {
    store,
    root,
    hostsDirectory,
    problems,
    reopen: (more = {}) => openIn(directory, { ...options, ...more }),
    dispose: async () => {
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Every path below a store's root, except the content of unpacked layers and containers. */
export async function listStore(root: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const name = path.relative(root, path.join(entry.parentPath, entry.name));
    if (!/^(layers|containers)\/[^/]+\/[^/]+\//.test(name)) found.push(name);
  }
  return found.sort();
}

/** Pulls, expects the failure, and expects the store to be as it was before. */
export async function expectCleanFailure(it: TestStore, reference: string, error: object): Promise<void> {
  const before = await listStore(it.root);
  await expect(it.store.pull(reference, undefined, new AbortController().signal)).rejects.toMatchObject(error);
  expect(await listStore(it.root)).toEqual(before);
  expect(it.store.list()).toEqual([]);
}
