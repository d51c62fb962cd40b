import { expect, test } from "vitest";
import { settled } from "./settled.ts";

test("resolves with all results, in order and with their types", async () => {
  const [text, number] = await settled([Promise.resolve("a"), Promise.resolve(1)]);
  expect([text.toUpperCase(), number + 1]).toEqual(["A", 2]);
});

test("rejects only after the last one has settled, with the first failure in argument order", async () => {
  const late = Promise.withResolvers<void>();
  let over = false;
  const both = settled([late.promise, Promise.reject(new Error("second"))]).finally(() => {
    over = true;
  });
  both.catch(() => undefined);
  await new Promise((resolve) => setImmediate(resolve));
  expect(over).toBe(false);
  late.reject(new Error("first"));
  await expect(both).rejects.toThrow("first");
});
