// Real mounts with hostile names. Lines that no kernel here writes: cgroup-hierarchies.test.ts.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { loadHost } from "../client/host.ts";
import { mountsBelow, readMountTable } from "./mount-table.ts";

test("mounts below a directory, by their names, the one to unmount first", async () => {
  const directory = mkdtempSync(join(tmpdir(), "keelson-mounts-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const outer = join(directory, "a b\\c\n\u00e9 - tmpfs");
  const inner = join(outer, "in it");
  for (const path of [outer, inner]) {
    mkdirSync(path);
    execFileSync("mount", ["-t", "tmpfs", "none", path]);
  }
  expect(await mountsBelow(directory)).toEqual([inner, outer]);
  expect(await mountsBelow(outer)).toEqual([inner, outer]);
  expect(await mountsBelow(`${directory}/a`)).toEqual([]);
  const [found] = (await readMountTable()).filter(({ at }) => at === inner);
  expect(found).toMatchObject({ root: "/", type: "tmpfs", device: expect.stringMatching(/^\d+:\d+$/) });
  for (const mount of await mountsBelow(directory)) await loadHost().unmount(mount);
  expect(await mountsBelow(directory)).toEqual([]);
});
