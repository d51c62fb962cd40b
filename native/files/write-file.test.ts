// Replacing files, and what remains when that fails. Runs as root: the full disk is a small tmpfs.

import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile as write } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { flushesOf } from "../testing/flushes.ts";
import { replaceFile, writeFile } from "./write-file.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-write-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

test.each(["nothing", "content", "content and name"] as const)("replaces a file with %s flushed", async (flush) => {
  const path = join(directory, "file");
  await replaceFile(path, "old", flush);
  await replaceFile(path, Buffer.from("new"), flush);
  expect(await readFile(path, "utf8")).toBe("new");
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(directory)).toEqual(["file"]);
});

test("flushes the temporary file before renaming it, and the directory if requested", async () => {
  const flushed = await flushesOf(`
    import { replaceFile } from "./native/files/write-file.ts";
    for (const flush of ["nothing", "content", "content and name"])
      await replaceFile(${JSON.stringify(directory)} + "/" + flush, "new", flush);`);
  expect(flushed).toEqual([join(directory, "content.new"), join(directory, "content and name.new"), directory]);
});

test("a longer temporary file left by a killed process does not leak into the next replacement", async () => {
  const path = join(directory, "file");
  await write(`${path}.new`, "half of something much longer");
  await replaceFile(path, "new", "content");
  expect(await readFile(path, "utf8")).toBe("new");
});

test("a replacement that cannot be renamed into place leaves nothing behind", async () => {
  const path = join(directory, "file");
  await mkdir(path);
  await expect(replaceFile(path, "new", "content")).rejects.toMatchObject({ code: "EISDIR" });
  expect(await readdir(directory)).toEqual(["file"]);
});

test("on a full disk the old content remains, and the error names the file", async () => {
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=16k", "tmpfs", directory]);
  try {
    const path = join(directory, "file");
    await replaceFile(path, "old", "content and name");
    const tooLong = "x".repeat(64 << 10);
    for (const flush of ["nothing", "content", "content and name"] as const) {
      await expect(replaceFile(path, tooLong, flush)).rejects.toMatchObject({
        code: "ENOSPC",
        message: expect.stringContaining(`${path}.new`),
      });
    }
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(directory)).toEqual(["file"]);
    await expect(writeFile(path, tooLong)).rejects.toMatchObject({ code: "ENOSPC", path });
  } finally {
    execFileSync("umount", [directory]);
  }
});
