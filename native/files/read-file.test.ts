import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readBounded, readStart, UnfitFile } from "./read-file.ts";

const directory = mkdtempSync(join(tmpdir(), "keelson-read-"));
afterAll(() => rmSync(directory, { recursive: true }));

test("reads a file up to the limit and rejects a longer one", async () => {
  const path = join(directory, "file");
  writeFileSync(path, "ä".repeat(50));
  expect(await readBounded(path, 100)).toBe("ä".repeat(50));
  await expect(readBounded(path, 99)).rejects.toThrow(new UnfitFile("it is longer than 99 bytes"));
  writeFileSync(path, "");
  expect(await readBounded(path, 100)).toBe("");
});

test("the limit also applies to a file whose size the kernel does not report", async () => {
  expect(await readBounded("/proc/self/stat", 10_000)).toContain("(");
  await expect(readBounded("/proc/kallsyms", 10_000)).rejects.toThrow(UnfitFile);
});

test("reads the start of a file, or all of a shorter one", async () => {
  const path = join(directory, "long");
  writeFileSync(path, "0123456789");
  expect(String(await readStart(path, 4))).toBe("0123");
  expect(String(await readStart(path, 100))).toBe("0123456789");
  expect(String(await readStart("/proc/self/comm", 100))).toMatch(/^\S+\n$/);
  await expect(readStart(join(directory, "none"), 4)).rejects.toMatchObject({ code: "ENOENT" });
});

test("anything but a regular file is rejected at once", async () => {
  const fifo = join(directory, "fifo");
  execFileSync("mkfifo", [fifo]);
  const link = join(directory, "link");
  symlinkSync("/dev/zero", link);
  for (const path of [fifo, link, directory]) {
    await expect(readBounded(path, 100), path).rejects.toThrow(new UnfitFile("it is not a regular file"));
  }
  await expect(readBounded(join(directory, "none"), 100)).rejects.toMatchObject({ code: "ENOENT" });
});
