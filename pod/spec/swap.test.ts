// The source of a container's swap limit.

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { noResources } from "../testing/configs.ts";
import type { Resources } from "../types.ts";
import { countsSwap, withoutSwap } from "./swap.ts";

const memory = (memoryLimit: bigint, memorySwapLimit = 0n): Resources => ({
  ...noResources,
  memoryLimit,
  memorySwapLimit,
});
/** What a kubelet sends with cgroup v2. */
const byFile = (memoryLimit: bigint): Resources => ({
  ...memory(memoryLimit),
  unified: new Map([["memory.swap.max", "1024"]]),
});

test.for<[title: string, wanted: Resources, before: Resources | undefined, swap: bigint]>([
  ["a memory limit only", memory(64n), undefined, 64n],
  ["no limit", noResources, undefined, 0n],
  ["memory and swap limits", memory(64n, 96n), undefined, 96n],
  ["a memory limit, and memory.swap.max in unified", byFile(64n), undefined, 0n],
  ["a first limit", memory(64n), noResources, 64n],
  ["a higher memory limit for a container without swap", memory(128n), memory(64n, 64n), 128n],
  ["a higher memory limit for a container with swap", memory(128n), memory(64n, 96n), 0n],
  ["a higher memory limit for a container with memory.swap.max in unified", memory(128n), byFile(64n), 0n],
  ["a removed memory limit", memory(-1n), memory(64n, 64n), -1n],
])("%s", ([, wanted, before, swap]) => {
  expect(withoutSwap(wanted, before).memorySwapLimit).toBe(swap);
});

test("a kernel that accounts swap has the file of its cgroup version", async () => {
  const root = await mkdtemp(join(tmpdir(), "keelson-swap-"));
  try {
    await mkdir(join(root, "pod"));
    const [v1, v2] = [
      { v1: new Map([["memory", root]]), v2: "", unified: false },
      { v1: new Map<string, string>(), v2: root, unified: true },
    ];
    expect([countsSwap(v1, "/pod"), countsSwap(v2, "/pod")]).toEqual([false, false]);
    await writeFile(join(root, "pod/memory.memsw.limit_in_bytes"), "");
    expect([countsSwap(v1, "/pod"), countsSwap(v2, "/pod")]).toEqual([true, false]);
    await writeFile(join(root, "pod/memory.swap.max"), "");
    expect(countsSwap(v2, "/pod")).toBe(true);
  } finally {
    await rm(root, { recursive: true });
  }
});
