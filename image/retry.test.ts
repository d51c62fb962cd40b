import { expect, test } from "vitest";
import { askedDelay, backOff } from "./retry.ts";

const never = new AbortController().signal;
const policy = { tries: 5, firstDelayMs: 40, longestDelayMs: 200, longestAskedMs: 60_000 };

async function waited(next: number, askedMs: number): Promise<number> {
  const start = performance.now();
  await backOff(policy, next, askedMs, never);
  return performance.now() - start;
}

// At least three quarters of the doubled delay are guaranteed; timers may fire a millisecond early.
test.each([
  ["the first delay before the second try", 2, 0, 29],
  ["double that before the third", 3, 0, 59],
  ["no longer than the longest delay", 9, 0, 149],
  ["at least as long as the server requests, even beyond the longest delay", 2, 250, 249],
])("waits %s", async (_name, next, askedMs, least) => {
  const ms = await waited(next, askedMs);
  expect(ms).toBeGreaterThanOrEqual(least);
  expect(ms).toBeLessThan(2000);
});

test("ends with the signal", async () => {
  await expect(backOff(policy, 2, 60_000, AbortSignal.timeout(20))).rejects.toThrow();
});

const now = Date.parse("Sat, 28 Nov 2026 12:00:00 GMT");
test.each([
  ["120", 120_000],
  ["Sat, 28 Nov 2026 12:01:30 GMT", 90_000],
  ["Sat, 28 Nov 2026 11:00:00 GMT", 0],
  ["-5", 0],
  ["soon", 0],
  ["9".repeat(400), 0],
  [undefined, 0],
])("Retry-After: %s", (value, milliseconds) => {
  expect(askedDelay(value, now)).toBe(milliseconds);
});
