import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseDigest } from "./digest.ts";
import { chooseManifests } from "./manifest.ts";
import { hostPlatform, type Platform } from "./platform.ts";

const v3 = "flags\t\t: cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave";

function choose(host: Platform, ...offered: (Platform | undefined)[]): number {
  const manifests = offered.map((platform, index) => {
    const digest = parseDigest(`sha256:${String(index).repeat(64)}`);
    if (digest === undefined) throw new Error("at most ten");
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    return { mediaType, digest, size: 1, platform, annotations: new Map() };
  });
  return Number(chooseManifests({ kind: "index", manifests }, host, "the index")[0]?.digest.slice(-1));
}

const linux = (architecture: string, variant = ""): Platform => ({ os: "linux", architecture, variant });

test("derives the host's level from its flags", () => {
  expect(hostPlatform("x64", "flags : sse2")).toEqual(linux("amd64", "v1"));
  expect(hostPlatform("x64", v3)).toEqual(linux("amd64", "v3"));
  expect(hostPlatform("x64", `${v3} avx512f avx512bw avx512cd avx512dq avx512vl`)).toEqual(linux("amd64", "v4"));
  expect(hostPlatform("x64", "")).toEqual(linux("amd64", "v1"));
  expect(hostPlatform("arm64", "")).toEqual(linux("arm64", "v8"));
  expect(hostPlatform(process.arch, readFileSync("/proc/cpuinfo", "utf8")).os).toBe("linux");
});

describe("chooses", () => {
  test("the architecture", () => expect(choose(linux("arm64", "v8"), linux("amd64"), linux("arm64"))).toBe(1));
  test("never another operating system", () =>
    expect(choose(linux("amd64"), { os: "windows", architecture: "amd64", variant: "" }, linux("amd64"))).toBe(1));
  test("the newest variant that runs here", () =>
    expect(choose(linux("amd64", "v3"), linux("amd64"), linux("amd64", "v2"), linux("amd64", "v4"))).toBe(1));
  test("the plain one for an old processor", () =>
    expect(choose(linux("amd64", "v1"), linux("amd64", "v2"), linux("amd64"))).toBe(1));
  test("arm64 with or without its variant", () => {
    expect(choose(linux("arm64", "v8"), linux("arm64", "v8"))).toBe(0);
    expect(choose(linux("arm64", "v8"), linux("arm64", "v9"), linux("arm64"))).toBe(1);
  });
  test("a 32-bit one when there is no native one, the newest first", () => {
    expect(choose(linux("amd64", "v3"), linux("arm64"), linux("386"))).toBe(1);
    expect(choose(linux("amd64"), linux("386"), linux("amd64"))).toBe(1);
    const arms = ["v5", "v7", "v6"].map((variant) => linux("arm", variant));
    expect(choose(linux("arm64", "v8"), linux("386"), ...arms)).toBe(2);
    expect(choose(linux("arm64", "v8"), ...arms, linux("arm64"))).toBe(3);
    expect(() => choose(linux("386"), linux("amd64"))).toThrow(/only for linux\/amd64/);
    expect(() => choose(linux("arm", "v7"), linux("arm64"), linux("arm", "v8"))).toThrow(/only for/);
  });
  test("the first of equals", () => expect(choose(linux("amd64"), linux("amd64"), linux("amd64"))).toBe(0));
  test("an entry without platform when no other fits", () =>
    expect(choose(linux("amd64"), linux("arm64"), undefined)).toBe(1));
  test("nothing, with an error that lists the available ones", () => {
    expect(() =>
      choose(linux("amd64"), linux("arm64"), { os: "unknown", architecture: "unknown", variant: "" }),
    ).toThrow(/for linux\/amd64, only for linux\/arm64, unknown\/unknown/);
  });
});
