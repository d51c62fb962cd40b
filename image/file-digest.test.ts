import { randomBytes } from "node:crypto";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { digestOfPart } from "./file-digest.ts";
import { sha256 } from "./testing/build-image.ts";

const never = new AbortController().signal;
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "keelson-digest-"));
});
afterEach(() => rm(directory, { recursive: true }));

test("covers exactly these bytes", async () => {
  const bytes = randomBytes(3_000_000);
  const file = await open(path.join(directory, "file"), "w+");
  await file.write(bytes);
  const part = { fd: file.fd, start: 1000, end: 2_500_001 };
  expect(await digestOfPart(part, never)).toBe(sha256(bytes.subarray(1000, 2_500_001)));
  await expect(digestOfPart({ ...part, end: 3_000_001 }, never)).rejects.toThrow("ended early");
  await file.close();
});

test("of a large file does not block the event loop, and ends with its signal", async () => {
  const file = await open(path.join(directory, "large"), "w+");
  await file.truncate(1024 ** 3);
  const before = process.threadCpuUsage();
  await digestOfPart({ fd: file.fd, start: 0, end: 1024 ** 3 }, never);
  const { user, system } = process.threadCpuUsage(before);
  // Microseconds of this thread alone; hashing a GiB on it would take several hundred thousand.
  expect(user + system).toBeLessThan(200_000);

  await file.truncate(1024 ** 4);
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error("enough")), 100);
  const start = performance.now();
  await expect(digestOfPart({ fd: file.fd, start: 0, end: 1024 ** 4 }, stop.signal)).rejects.toThrow("enough");
  expect(performance.now() - start).toBeLessThan(5000);
  await file.close();
});
