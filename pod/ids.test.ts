// Ids and their prefixes.

import { expect, test } from "vitest";
import { findIfAny, newSandboxId, requireById } from "./ids.ts";

const items = new Map(["abc1", "abc2", "def3"].map((id) => [id, id]));

test("a unique prefix matches; ambiguous and empty ones are errors", () => {
  expect(requireById(items, "d", "sandbox")).toBe("def3");
  expect(requireById(items, "abc1", "sandbox")).toBe("abc1");
  expect(() => requireById(items, "abc", "container")).toThrow("more than one container");
  expect(() => requireById(items, "x", "container")).toThrow("does not exist");
  expect(findIfAny(items, "x", "container")).toBeUndefined();
  expect(() => findIfAny(items, "", "container")).toThrow("has no container id");
});

test("ids are 64 hex digits and unique", () => {
  expect(newSandboxId()).toMatch(/^[0-9a-f]{64}$/);
  expect(newSandboxId()).not.toBe(newSandboxId());
});
