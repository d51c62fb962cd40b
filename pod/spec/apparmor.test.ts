// A container's profile, chosen from a list in the kernel's format. (This kernel may have no AppArmor.)

import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { apparmorFor } from "./apparmor.ts";
import { apparmorIsOn, defaultProfile } from "./apparmor-default.ts";

let directory: string;
let profiles: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-apparmor-"));
  profiles = join(directory, "profiles");
  writeFileSync(profiles, "docker-default (enforce)\nweb (complain)\n");
});
afterAll(() => rm(directory, { recursive: true }));

const off = { kind: "off" } as const;
const loaded = { kind: "loaded" } as const;
const localhost = (path: string) => ({ type: "localhost", path }) as const;

test("a loaded profile is used if its full name matches", async () => {
  expect(await apparmorFor({ apparmor: localhost("web"), privileged: false }, off, profiles)).toBe("web");
  await expect(apparmorFor({ apparmor: localhost("we"), privileged: false }, off, profiles)).rejects.toMatchObject({
    code: "InvalidArgument",
    message: expect.stringContaining("we is not loaded"),
  });
});

test("without AppArmor a profile is refused, unless the container is privileged", async () => {
  const missing = join(directory, "missing");
  await expect(apparmorFor({ apparmor: localhost("web"), privileged: false }, off, missing)).rejects.toMatchObject({
    message: expect.stringContaining("has no AppArmor"),
  });
  expect(await apparmorFor({ apparmor: localhost("web"), privileged: true }, off, missing)).toBeUndefined();
  expect(await apparmorFor({ privileged: false }, off, missing)).toBeUndefined();
});

test("containers that request no profile, or the default one, get the default profile if it is loaded", async () => {
  const byDefault = { type: "runtime-default" } as const;
  expect(await apparmorFor({ privileged: false }, loaded)).toBe("keelson-default");
  expect(await apparmorFor({ apparmor: byDefault, privileged: false }, loaded)).toBe("keelson-default");
  expect(await apparmorFor({ apparmor: { type: "unconfined" }, privileged: false }, loaded)).toBeUndefined();
  expect(await apparmorFor({ apparmor: byDefault, privileged: true }, loaded)).toBeUndefined();
  expect(await apparmorFor({ apparmor: byDefault, privileged: false }, off)).toBeUndefined();
});

test("if the default profile could not be loaded, only containers that request it are refused", async () => {
  const unloaded = { kind: "missing", reason: "spawn apparmor_parser ENOENT" } as const;
  expect(await apparmorFor({ privileged: false }, unloaded)).toBeUndefined();
  await expect(
    apparmorFor({ apparmor: { type: "runtime-default" }, privileged: false }, unloaded),
  ).rejects.toMatchObject({
    code: "FailedPrecondition",
    message: expect.stringContaining("keelson-default was requested, but is not loaded: spawn apparmor_parser ENOENT"),
  });
});

test("AppArmor is on if the kernel says Y", async () => {
  writeFileSync(join(directory, "enabled"), "Y\n");
  expect(await apparmorIsOn(join(directory, "enabled"))).toBe(true);
  writeFileSync(join(directory, "enabled"), "N\n");
  expect(await apparmorIsOn(join(directory, "enabled"))).toBe(false);
  expect(await apparmorIsOn(join(directory, "missing"))).toBe(false);
});

test("the profile names an ABI only if the host has its file", () => {
  expect(defaultProfile(true)).toMatch(/^abi <abi\/3\.0>,\n/);
  expect(defaultProfile(false)).not.toContain("abi <");
});
