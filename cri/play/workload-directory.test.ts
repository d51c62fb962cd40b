// The lock of a played workload: one process at a time, and leftovers of a dead one are detected.

import { execFileSync } from "node:child_process";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadHost } from "../../native/index.ts";
import { askToEnd, heldElsewhere, lockWorkload, workloadDirectory } from "./workload-directory.ts";

const host = loadHost();
let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "keelson-workload-"));
});

afterEach(async () => {
  await rm(root, { recursive: true });
});

const workload = (name: string) => ({ kind: "Pod", namespace: "default", name }) as const;

async function take(name: string) {
  const directory = await lockWorkload(host, root, workload(name));
  if (directory === undefined) throw new Error(`${name} is locked`);
  return directory;
}

test("has one player, whose pid is reported to others, and which removes its directory", async () => {
  const first = await take("web");
  expect(await lockWorkload(host, root, workload("web"))).toBeUndefined();
  expect(heldElsewhere(root, workload("web")).message).toContain(
    `Pod default/web is already being played by process ${process.pid}.`,
  );
  const other = await take("other");
  await first.remove();
  // Parent directories are shared.
  expect(await readdir(join(root, "play/default/Pod"))).toEqual(["other"]);
  await other.remove();
  expect(await readdir(root)).toEqual(["play.lock"]);
  await (await take("web")).remove();
});

test("is accessible to root only, as are play's directories above it: it contains Secrets", async () => {
  const directory = await take("web");
  for (const path of [directory.path, join(root, "play")]) expect((await stat(path)).mode & 0o077).toBe(0);
  await directory.remove();
});

test("can be played on a full disk, where its lock cannot name the process", async () => {
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=4k", "keelson-test", root]);
  try {
    await writeFile(join(root, "filler"), Buffer.alloc(4096));
    const directory = await take("web");
    expect(heldElsewhere(root, workload("web")).message).toContain("by process unknown");
    await directory.remove();
  } finally {
    execFileSync("umount", ["--lazy", root]);
  }
});

test("detects the leftovers of an earlier player", async () => {
  const first = await take("web");
  expect(await first.isEmpty()).toBe(true);
  await writeFile(join(first.path, "volume"), "");
  first.release();
  const second = await take("web");
  expect(await second.isEmpty()).toBe(false);
  await second.remove();
});

test("can be asked to stop by another process", async () => {
  const directory = await take("web");
  expect(await directory.isUnwanted()).toBe(false);
  await askToEnd(host, root, workload("web"));
  expect(await directory.isUnwanted()).toBe(true);
  await directory.remove();
  // It is not being played, so there is no process to ask.
  await askToEnd(host, root, workload("web"));
  expect(await readdir(root)).toEqual(["play.lock"]);
});

test("many concurrent players never share it", async () => {
  let holders = 0;
  let most = 0;
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let turns = 0; turns < 20; turns++) {
        const directory = await lockWorkload(host, root, workload("web"));
        if (directory === undefined) continue;
        most = Math.max(most, ++holders);
        await new Promise((resolve) => setImmediate(resolve));
        holders -= 1;
        await directory.remove();
      }
    }),
  );
  expect(most).toBe(1);
  expect(workloadDirectory(root, workload("web"))).toBe(join(root, "play/default/Pod/web"));
});
