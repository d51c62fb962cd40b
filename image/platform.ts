// Selects the image of an index that fits this node (OCI image-spec image-index.md, "platform").
//
// Bounds: the index's own (manifest.ts); its parts are truncated in messages there and in the error.

import type { JsonReader } from "../native/index.ts";

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  /** `v1`…, or "" when absent. */
  readonly variant: string;
}

/** The variant of a platform that names none. */
const baseVariant: ReadonlyMap<string, number> = new Map([
  ["amd64", 1],
  ["arm64", 8],
  ["arm", 7],
]);

/** The 32-bit platforms that 64-bit processors also run, as in containerd (platforms, compare.go). */
const narrowArchitecture: ReadonlyMap<string, Omit<Platform, "os">> = new Map([
  ["amd64", { architecture: "386", variant: "" }],
  ["arm64", { architecture: "arm", variant: "v8" }],
]);

// The micro-architecture levels v2 to v4 of the x86-64 psABI, by their flags in /proc/cpuinfo.
const amd64Levels: readonly (readonly string[])[] = [
  ["cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"],
  ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"],
  ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"],
];

/** This node's platform. `nodeArchitecture` is process.arch, `cpuinfo` the text of /proc/cpuinfo. */
export function hostPlatform(nodeArchitecture: string, cpuinfo: string): Platform {
  if (nodeArchitecture === "arm64") return { os: "linux", architecture: "arm64", variant: "v8" };
  if (nodeArchitecture === "arm") return { os: "linux", architecture: "arm", variant: "v7" };
  if (nodeArchitecture !== "x64") return { os: "linux", architecture: nodeArchitecture, variant: "" };
  const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(/\s+/));
  const missing = amd64Levels.findIndex((level) => !level.every((flag) => flags.has(flag)));
  const level = 1 + (missing < 0 ? amd64Levels.length : missing);
  return { os: "linux", architecture: "amd64", variant: `v${level}` };
}

export function readPlatform(object: JsonReader): Platform {
  return {
    os: object.string("os") ?? "",
    architecture: object.string("architecture") ?? "",
    variant: object.string("variant") ?? "",
  };
}

/**
 * How well a platform fits: 0 for not at all, otherwise higher is better: the newest variant that this host can run,
 * and a 32-bit one only when there is no native one.
 */
export function fitness(offered: Platform, host: Platform): number {
  const narrow = narrowArchitecture.get(host.architecture);
  const narrowFitness = narrow === undefined ? 0 : nativeFitness(offered, { os: host.os, ...narrow });
  return nativeFitness(offered, host) || narrowFitness / 1000;
}

function nativeFitness(offered: Platform, host: Platform): number {
  if (offered.os !== host.os || offered.architecture !== host.architecture) return 0;
  const wanted = variantNumber(host);
  const given = variantNumber(offered);
  return given <= wanted ? given : 0;
}

export function formatPlatform(platform: Platform): string {
  return [platform.os || "unknown", platform.architecture || "unknown", platform.variant].filter(Boolean).join("/");
}

function variantNumber(platform: Platform): number {
  const number = /^v([1-9][0-9]?)$/.exec(platform.variant)?.[1];
  return number === undefined ? (baseVariant.get(platform.architecture) ?? 1) : Number(number);
}
