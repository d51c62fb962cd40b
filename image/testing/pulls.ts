// For test files of pulls: a store and an optional misbehaving registry, both removed after each test.

import { afterEach, beforeEach } from "vitest";
import { openTestStore, type TestStore } from "./store.ts";
import { type Interception, startWrongRegistry, type WrongRegistry } from "./wrong-registry.ts";

export function usePulls() {
  let store: TestStore;
  let registry: WrongRegistry | undefined;
  beforeEach(async () => {
    store = await openTestStore();
  });
  afterEach(async () => {
    await store.dispose();
    await registry?.stop();
    registry = undefined;
  });
  return {
    it: () => store,
    serve: async (intercept?: Interception): Promise<WrongRegistry> => {
      registry = await startWrongRegistry(intercept);
      return registry;
    },
  };
}
