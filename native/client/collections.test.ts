// What V8 collects of a daemon's heap, and when: under the flags of cri/keelson, each time in a process of its own.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const flags = ["--max-semi-space-size=1", "--max-heap-size=512"];

/** 250 MB in the pieces that sockets read, of which 20 are always under way to a slower sink; prints the collections. */
const stream = `
import { PerformanceObserver, constants } from "node:perf_hooks";
import { setImmediate as turn } from "node:timers/promises";
import { collect, passedBuffer } from "${import.meta.dirname}/memory.ts";
const records = Array.from({ length: 22_000 }, (_, at) => ({ id: "pod-" + at, labels: new Map([["a", at]]) }));
const counts = {};
const count = ({ detail: { kind } }) => { counts[kind] = (counts[kind] ?? 0) + 1; };
new PerformanceObserver((list) => list.getEntries().forEach(count)).observe({ entryTypes: ["gc"] });
collect();
await turn();
await turn();
counts[constants.NODE_PERFORMANCE_GC_MAJOR] = 0;
const underWay = [];
for (let piece = 0; piece < 4_000; piece += 1) {
  const buffer = Buffer.from(new ArrayBuffer(64 << 10));
  underWay.push(buffer);
  if (underWay.length > 20) underWay.shift();
  passedBuffer(buffer.length);
  await turn();
}
await turn();
console.log(records.length, counts[constants.NODE_PERFORMANCE_GC_MAJOR], counts[constants.NODE_PERFORMANCE_GC_MINOR]);
`;

/** Drops 64 MB that have become old; prints the megabytes that are left after a collection of each kind. */
const drop = `
import { setTimeout as delay } from "node:timers/promises";
import { collect } from "${import.meta.dirname}/memory.ts";
let held = Array.from({ length: 4 }, () => new ArrayBuffer(16 << 20));
for (let times = 0; times < 3; times += 1) collect("minor");
held = undefined;
collect("minor");
const young = process.memoryUsage().arrayBuffers >> 20;
collect();
// Another thread frees them.
const left = () => process.memoryUsage().arrayBuffers >> 20;
for (let turns = 0; left() > 0 && turns < 500; turns += 1) await delay(10);
console.log(young, left());
`;

/**
 * Page faults for each 1,000 buffers as sockets are read into: at rest, in a stream, and at rest again. There more of them
 * are under way than find room in holes of the heap.
 */
const faults = `
import { reuseBuffers } from "${import.meta.dirname}/memory.ts";
import { loadHost } from "${import.meta.dirname}/host.ts";
loadHost();
const pass = (atOnce) => {
  const underWay = Array.from({ length: atOnce }, () => Buffer.allocUnsafeSlow(64 << 10).fill(1));
  // What an ArrayBuffer is transferred from is freed at once.
  for (const { buffer } of underWay) buffer.transfer(0);
};
const count = (atOnce) => {
  pass(atOnce);
  const before = process.resourceUsage().minorPageFault;
  for (let times = 0; times < 5; times += 1) pass(atOnce);
  return Math.round((process.resourceUsage().minorPageFault - before) / (atOnce * 0.005));
};
const figures = [count(600)];
{
  using first = reuseBuffers();
  {
    using second = reuseBuffers();
  }
  figures.push(count(200));
}
console.log(...figures, count(600));
`;

function run(script: string) {
  return promisify(execFile)(process.execPath, [...flags, "--input-type=module", "--eval", script]);
}

test("a collection is of the whole heap, unless it is asked for what is young", async () => {
  expect((await run(drop)).stdout.trim()).toBe("64 0");
});

test("the buffers of a stream come out of memory that is there, and at rest none is kept for them", async () => {
  const [before = 0, within = Number.NaN, after = 0] = (await run(faults)).stdout.trim().split(" ").map(Number);
  // 16 pages each.
  expect(before).toBeGreaterThan(6_000);
  expect(within).toBeLessThan(1_000);
  expect(after).toBeGreaterThan(6_000);
});

test("a stream of buffers makes V8 collect what is young, and not the whole heap again and again", async () => {
  const { stdout } = await run(stream);
  const [, major = Number.NaN, minor] = stdout.split(" ").map(Number);
  expect(minor).toBeGreaterThan(0);
  // 18 with a collection for each 8 MB.
  expect(major).toBeLessThan(5);
});
