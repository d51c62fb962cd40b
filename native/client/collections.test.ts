// What V8 collects from a daemon's heap, and when: with the flags of cri/keelson, each test in its own process.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const flags = ["--max-semi-space-size=1", "--max-heap-size=512"];

/** Passes 250 MB in socket-sized chunks, 20 of them always in flight to a slower sink; prints the collections. */
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

/** Drops 64 MB of the old generation; prints the megabytes left after a collection of each kind. */
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
 * Prints the page faults per 1,000 socket buffers: idle, during a stream, and idle again. When idle, more of them are
 * in use than fit into holes in the heap.
 */
const faults = `
import { reuseBuffers } from "${import.meta.dirname}/memory.ts";
import { loadHost } from "${import.meta.dirname}/host.ts";
loadHost();
const pass = (atOnce) => {
  const underWay = Array.from({ length: atOnce }, () => Buffer.allocUnsafeSlow(64 << 10).fill(1));
  // Transferring an ArrayBuffer frees the original at once.
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

test("a collection covers the whole heap, unless a minor one is requested", async () => {
  expect((await run(drop)).stdout.trim()).toBe("64 0");
});

test("the buffers of a stream reuse freed memory, and none is kept for them when idle", async () => {
  const [before = 0, within = Number.NaN, after = 0] = (await run(faults)).stdout.trim().split(" ").map(Number);
  // 16 pages each.
  expect(before).toBeGreaterThan(6_000);
  expect(within).toBeLessThan(1_000);
  expect(after).toBeGreaterThan(6_000);
});

test("a stream of buffers causes minor collections, but not repeated collections of the whole heap", async () => {
  const { stdout } = await run(stream);
  const [, major = Number.NaN, minor] = stdout.split(" ").map(Number);
  expect(minor).toBeGreaterThan(0);
  // It would be 18 with a collection every 8 MB.
  expect(major).toBeLessThan(5);
});
