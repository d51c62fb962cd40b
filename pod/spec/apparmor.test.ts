// Which profile a container gets, from a list as the kernel prints it. (This kernel may have no AppArmor.)

import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { apparmorFor } from "./apparmor.ts";

let directory: string;
let profiles: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-apparmor-"));
  profiles = join(directory, "profiles");
  writeFileSync(profiles, "docker-default (enforce)\nweb (complain)\n");
});
afterAll(() => rm(directory, { recursive: true }));

const localhost = (path: string) => ({ type: "localhost", path }) as const;

test("a loaded profile is used, by its whole name", async () => {
  expect(await apparmorFor({ apparmor: localhost("web"), privileged: false }, profiles)).toBe("web");
  await expect(apparmorFor({ apparmor: localhost("we"), privileged: false }, profiles)).rejects.toMatchObject({
    code: "InvalidArgument",
    message: expect.stringContaining("we is not loaded"),
  });
});

test("without AppArmor a profile is refused, unless the container is privileged", async () => {
  const missing = join(directory, "missing");
  await expect(apparmorFor({ apparmor: localhost("web"), privileged: false }, missing)).rejects.toMatchObject({
    message: expect.stringContaining("has no AppArmor"),
  });
  expect(await apparmorFor({ apparmor: localhost("web"), privileged: true }, missing)).toBeUndefined();
  expect(await apparmorFor({ privileged: false }, missing)).toBeUndefined();
});
