// When an idle daemon gives memory back.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { giveBackWhenIdle } from "./memory.ts";

const mebibyte = 1024 * 1024;
let returns: number;
let letGos: number;
let held: number;
let utilization: number;

beforeEach(() => {
  vi.useFakeTimers();
  returns = 0;
  letGos = 0;
  held = 80 * mebibyte;
  utilization = 0;
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
  const host = {
    trimHeap: () => {
      returns += 1;
      held -= 2 * mebibyte;
    },
    letGoOfProgram: () => {
      letGos += 1;
    },
  };
  const watch = giveBackWhenIdle(host, () => held);
  expect(returnsAfterALook()).toBe(1);
  expect(returnsAfterALook()).toBe(1);
  held += mebibyte;
  expect(returnsAfterALook()).toBe(1);
  held += mebibyte;
  utilization = 0.3;
  expect(returnsAfterALook()).toBe(1);
  utilization = 0.01;
  expect(returnsAfterALook()).toBe(2);
  held += 10 * mebibyte;
  watch[Symbol.dispose]();
  expect(returnsAfterALook()).toBe(2);
  expect(letGos).toBe(2);
});

/** Prints the kilobytes of its program's files before and after it has let go of them, and what it still can. */
const lettingGo = `
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gzipSync, gunzipSync } from "node:zlib";
import { loadHost } from "${import.meta.dirname}/host.ts";
const host = loadHost();
const ofFiles = () => Number(/RssFile:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
const before = ofFiles();
host.letGoOfProgram();
const after = ofFiles();
const text = gunzipSync(gzipSync("still ".repeat(1000))).toString();
console.log(before, after, createHash("sha256").update(text).digest("hex").length, (await import("node:dns")).promises !== undefined);
`;

test("a program whose pages are let go of is smaller by tens of megabytes, and goes on", async () => {
  vi.useRealTimers();
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", lettingGo]);
  const [before = 0, after = Number.NaN, ...rest] = stdout.trim().split(" ");
  expect(Number(before) - Number(after)).toBeGreaterThan(20_000);
  expect(rest).toEqual(["64", "true"]);
});
