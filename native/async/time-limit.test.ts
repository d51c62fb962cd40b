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

  test("aborts with its own reason when the time is over", () => {
    using limit = new TimeLimit(100, late);
    vi.advanceTimersByTime(99);
    expect(limit.signal.aborted).toBe(false);
    vi.advanceTimersByTime(1);
    expect(limit.signal.reason).toEqual(late());
  });

  test("aborts with the caller's reason when the caller is gone before, and with that one only", () => {
    const caller = new AbortController();
    using limit = new TimeLimit(100, late, caller.signal);
    caller.abort(new Error("gone"));
    vi.advanceTimersByTime(200);
    expect(limit.signal.reason).toEqual(new Error("gone"));
    expect(vi.getTimerCount()).toBe(0);
  });

  test("of a caller that is gone already is over from the start", () => {
    using limit = new TimeLimit(100, late, AbortSignal.abort(new Error("gone")));
    expect(limit.signal.reason).toEqual(new Error("gone"));
    expect(vi.getTimerCount()).toBe(0);
  });

  test("that is disposed of does nothing any more", () => {
    const caller = new AbortController();
    const limit = new TimeLimit(100, late, caller.signal);
    limit[Symbol.dispose]();
    caller.abort();
    vi.advanceTimersByTime(200);
    expect(limit.signal.aborted).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("longer than a timer can be is as long as a timer can be", () => {
    using limit = new TimeLimit(Number.MAX_SAFE_INTEGER, late);
    vi.advanceTimersByTime(longestTimerMs - 1);
    expect(limit.signal.aborted).toBe(false);
  });
});

test("work in time gives its result or its failure", async () => {
  expect(await withTimeLimit(Promise.resolve(1), 1000, late)).toBe(1);
  await expect(withTimeLimit(Promise.reject(new Error("work")), 1000, late)).rejects.toThrow("work");
  await expect(withTimeLimit(never, 10, late)).rejects.toThrow("late");
});

test("tells work that is done from work that is not, and lets a failure through", async () => {
  expect(await isDoneWithin(sleep(1), 1000)).toBe(true);
  expect(await isDoneWithin(never, 10)).toBe(false);
  await expect(isDoneWithin(Promise.reject(new Error("work")), 1000)).rejects.toThrow("work");
});
