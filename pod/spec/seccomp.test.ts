// Profiles and their filters on disk.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadHost } from "../../native/index.ts";
import { plainSecurity } from "../testing/configs.ts";
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

test("containers with different capabilities get different default profiles, those with the same the same one", async () => {
  const filters = new SeccompFilters(directory, loadHost());
  const security = { ...plainSecurity, seccomp: { type: "runtime-default", path: "" } } as const;
  const [usual, admin] = [await filters.profile(security, []), await filters.profile(security, ["CAP_SYS_ADMIN"])];
  expect(admin).not.toEqual(usual);
  expect(await filters.profile(security, [])).toBe(usual);
});

test.each([
  ["no JSON", "{", "it is not JSON"],
  ["no profile", "{}", "it has no defaultAction"],
  ["a list", "[]", "it has no defaultAction"],
  ["too large", " ".repeat((4 << 20) + 1), "longer than 4194304 bytes"],
])("a profile that is %s is refused with its path", async (_, content, reason) => {
  const path = join(directory, "profile.json");
  await writeFile(path, content);
  const security = { ...plainSecurity, seccomp: { type: "localhost", path } } as const;
  await expect(new SeccompFilters(directory, loadHost()).profile(security, [])).rejects.toMatchObject({
    name: "seccompProfile",
    message: expect.stringMatching(new RegExp(`${path}.*${reason}`)),
  });
});

test("a profile whose compilation failed is compiled again at the next request", async () => {
  const host = loadHost();
  let fails = true;
  const compileSeccomp = async (json: string) => {
    if (fails) throw new Error("ENOMEM");
    return await host.compileSeccomp(json);
  };
  const filters = new SeccompFilters(directory, { ...host, compileSeccomp });
  await expect(filters.path(profile)).rejects.toThrow("ENOMEM");
  fails = false;
  expect(await filters.path(profile)).toContain(directory);
});
