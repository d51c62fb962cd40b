import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { isDoneWithin, longestTimerMs, TimeLimit, withTimeLimit } from "./time-limit.ts";

const late = () => new Error("late");
const never = new Promise<never>(() => undefined);

describe("a time limit", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test("aborts with its own reason when the time expires", () => {
    using limit = new TimeLimit(100, late);
    vi.advanceTimersByTime(99);
    expect(limit.signal.aborted).toBe(false);
    vi.advanceTimersByTime(1);
    expect(limit.signal.reason).toEqual(late());
  });

  test("aborts once, with the caller's reason, if the caller's signal aborts first", () => {
    const caller = new AbortController();
    using limit = new TimeLimit(100, late, caller.signal);
    caller.abort(new Error("gone"));
    vi.advanceTimersByTime(200);
    expect(limit.signal.reason).toEqual(new Error("gone"));
    expect(vi.getTimerCount()).toBe(0);
  });

  test("is aborted from the start if the caller's signal is", () => {
    using limit = new TimeLimit(100, late, AbortSignal.abort(new Error("gone")));
    expect(limit.signal.reason).toEqual(new Error("gone"));
    expect(vi.getTimerCount()).toBe(0);
  });

  test("does nothing once it is disposed of", () => {
    const caller = new AbortController();
    const limit = new TimeLimit(100, late, caller.signal);
    limit[Symbol.dispose]();
    caller.abort();
    vi.advanceTimersByTime(200);
    expect(limit.signal.aborted).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("is capped at the longest possible timer", () => {
    using limit = new TimeLimit(Number.MAX_SAFE_INTEGER, late);
    vi.advanceTimersByTime(longestTimerMs - 1);
    expect(limit.signal.aborted).toBe(false);
  });
});

test("work that settles in time gives its result or its failure", async () => {
  expect(await withTimeLimit(Promise.resolve(1), 1000, late)).toBe(1);
  await expect(withTimeLimit(Promise.reject(new Error("work")), 1000, late)).rejects.toThrow("work");
  await expect(withTimeLimit(never, 10, late)).rejects.toThrow("late");
});

test("reports whether the work is done in time, and passes a failure on", async () => {
  expect(await isDoneWithin(sleep(1), 1000)).toBe(true);
  expect(await isDoneWithin(never, 10)).toBe(false);
  await expect(isDoneWithin(Promise.reject(new Error("work")), 1000)).rejects.toThrow("work");
});
