import { expect, test } from "vitest";
import { backOff } from "./retry.ts";

const never = new AbortController().signal;
const policy = { tries: 5, firstDelayMs: 40, longestDelayMs: 200 };

async function waited(next: number, askedMs: number): Promise<number> {
  const start = performance.now();
  await backOff(policy, next, askedMs, never);
  return performance.now() - start;
}

// At least three quarters of the wait are certain; timers may fire a millisecond early.
test.each([
  ["the first delay before the second try", 2, 0, 29],
  ["double that before the third", 3, 0, 59],
  ["what the other side asks for", 2, 120, 89],
  ["no longer than the longest delay", 9, 60_000, 149],
])("waits %s", async (_name, next, askedMs, least) => {
  const ms = await waited(next, askedMs);
  expect(ms).toBeGreaterThanOrEqual(least);
  expect(ms).toBeLessThan(2000);
});

test("ends with the signal", async () => {
  await expect(backOff({ ...policy, longestDelayMs: 60_000 }, 2, 60_000, AbortSignal.timeout(20))).rejects.toThrow();
});
