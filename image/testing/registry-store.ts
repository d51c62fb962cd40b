// For a test file of pulls from Debian's registry: one for all its tests, and a store for each.

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
