// Real mounts with hostile names. For lines that this kernel does not produce, see cgroup-hierarchies.test.ts.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { loadHost } from "../client/host.ts";
import { mountsBelow, readMountTable } from "./mount-table.ts";

test("lists the mounts below a directory in the order in which to unmount them", async () => {
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
