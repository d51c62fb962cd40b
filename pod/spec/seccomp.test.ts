// Profiles and their filters on disk.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadHost } from "../../native/index.ts";
import { SeccompFilters } from "./seccomp.ts";

const profile = { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["mkdir"], action: "SCMP_ACT_ERRNO" }] };

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-filters-"));
});
afterAll(async () => {
  await rm(directory, { recursive: true });
});

test("a daemon compiles a filter once; the next daemon, possibly of another version, compiles it again", async () => {
  const filters = new SeccompFilters(directory, loadHost());
  const path = await filters.path(profile);
  const compiled = await readFile(path);
  await writeFile(path, "of an older version");
  expect(await filters.path({ ...profile })).toBe(path);
  expect(await readFile(path, "utf8")).toBe("of an older version");
  expect(await new SeccompFilters(directory, loadHost()).path(profile)).toBe(path);
  expect(await readFile(path)).toEqual(compiled);
});
