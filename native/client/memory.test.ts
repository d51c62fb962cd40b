// When an idle daemon gives memory back.

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { giveBackWhenIdle } from "./memory.ts";

const mebibyte = 1024 * 1024;
let returns: number;
let held: number;
let utilization: number;

beforeEach(() => {
  vi.useFakeTimers();
  returns = 0;
  held = 80 * mebibyte;
  utilization = 0;
  vi.spyOn(process.memoryUsage, "rss").mockImplementation(() => held);
  vi.spyOn(performance, "eventLoopUtilization").mockImplementation(() => ({ idle: 0, active: 0, utilization }));
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function returnsAfterALook(): number {
  vi.advanceTimersByTime(10_000);
  return returns;
}

test("an idle daemon gives back what it has grown by, once, and never while it works", () => {
  const watch = giveBackWhenIdle({
    trimHeap: () => {
      returns += 1;
      held -= 2 * mebibyte;
    },
  });
  expect(returnsAfterALook()).toBe(1);
  expect(returnsAfterALook()).toBe(1);
  held += 3 * mebibyte;
  expect(returnsAfterALook()).toBe(1);
  held += mebibyte;
  utilization = 0.3;
  expect(returnsAfterALook()).toBe(1);
  utilization = 0.01;
  expect(returnsAfterALook()).toBe(2);
  held += 10 * mebibyte;
  watch[Symbol.dispose]();
  expect(returnsAfterALook()).toBe(2);
});
