// When a daemon returns memory to the kernel.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { giveBackWhenGrown } from "./memory.ts";

const mebibyte = 1024 * 1024;

describe("a daemon that is checked every ten seconds", () => {
  let resident: { own: number; ofFiles: number };
  let did: { collections: number; trims: number; letGos: number };
  let utilization: number;
  let watch: Disposable;

  beforeEach(() => {
    vi.useFakeTimers();
    resident = { own: 80 * mebibyte, ofFiles: 48 * mebibyte };
    did = { collections: 0, trims: 0, letGos: 0 };
    utilization = 0;
    vi.spyOn(performance, "eventLoopUtilization").mockImplementation(() => ({ idle: 0, active: 0, utilization }));
    const host = {
      trimHeap: () => {
        did.trims += 1;
      },
      letGoOfProgram: () => {
        did.letGos += 1;
        resident.ofFiles = 8 * mebibyte;
      },
    };
    const collect = () => {
      did.collections += 1;
    };
    watch = giveBackWhenGrown(host, { resident: () => ({ ...resident }), collect });
  });

  afterEach(() => {
    watch[Symbol.dispose]();
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  function look(seconds = 10): typeof did {
    did = { collections: 0, trims: 0, letGos: 0 };
    vi.advanceTimersByTime(seconds * 1000);
    return did;
  }

  test("returns, once, the memory that it has gained since its minimum", () => {
    expect(look()).toEqual({ collections: 1, trims: 1, letGos: 1 });
    expect(look()).toEqual({ collections: 0, trims: 0, letGos: 0 });
    resident.own += mebibyte;
    expect(look()).toEqual({ collections: 0, trims: 0, letGos: 0 });
    resident.own += mebibyte;
    expect(look()).toEqual({ collections: 1, trims: 1, letGos: 0 });
    resident.own -= 20 * mebibyte;
    expect(look()).toEqual({ collections: 0, trims: 0, letGos: 0 });
    resident.own += 2 * mebibyte;
    expect(look()).toEqual({ collections: 1, trims: 1, letGos: 0 });
    resident.own += 10 * mebibyte;
    watch[Symbol.dispose]();
    expect(look()).toEqual({ collections: 0, trims: 0, letGos: 0 });
  });

  test("drops its program's pages at most once a minute", () => {
    expect(look().letGos).toBe(1);
    resident.ofFiles += 8 * mebibyte;
    expect(look(50).letGos).toBe(0);
    expect(look().letGos).toBe(1);
    expect(look(60).letGos).toBe(0);
  });

  test("is interrupted while busy only after large growth, sudden or gradual", () => {
    look();
    utilization = 0.3;
    resident.ofFiles += 8 * mebibyte;
    for (let grown = 2; grown < 20; grown += 2) {
      resident.own += 2 * mebibyte;
      expect(look()).toEqual({ collections: 0, trims: 0, letGos: 0 });
    }
    resident.own += 2 * mebibyte;
    resident.ofFiles += 16 * mebibyte;
    expect(look()).toEqual({ collections: 1, trims: 1, letGos: 1 });
  });

  test("returns the memory that it gained while busy once it is idle", () => {
    look();
    utilization = 0.3;
    resident.own += 8 * mebibyte;
    expect(look().collections).toBe(0);
    utilization = 0;
    expect(look()).toEqual({ collections: 1, trims: 1, letGos: 0 });
  });
});

/** Prints its resident file mappings in kB before and after it has dropped them, and whether it still works. */
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

test("dropping its pages shrinks a program by tens of megabytes, and it still works", async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", lettingGo]);
  const [before = 0, after = Number.NaN, ...rest] = stdout.trim().split(" ");
  expect(Number(before) - Number(after)).toBeGreaterThan(20_000);
  expect(rest).toEqual(["64", "true"]);
});
