// For test files of pulls from Debian's registry: one registry for all tests of a file, and a store for each test.

import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import { startRegistry, type TestRegistry } from "./registry.ts";
import { openTestStore, type TestStore } from "./store.ts";

export function useRegistryStore() {
  let registry: TestRegistry;
  let store: TestStore;
  beforeAll(async () => {
    registry = await startRegistry();
  });
  afterAll(() => registry.stop());
  beforeEach(async () => {
    store = await openTestStore();
  });
  afterEach(() => store.dispose());
  return { it: () => store, registry: () => registry };
}
