// Swap where a client limits memory and has no word of it: none, as in both peers. The limit would only move what is
// beyond it to the disk.
// Sources: CRI v1 LinuxContainerResources; OCI config-linux.md ("Memory"); cgroup-v2.rst (memory.swap.max).

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { CgroupTree } from "../../native/index.ts";
import type { Resources } from "../types.ts";

const v2File = "memory.swap.max";

/** Whether this kernel counts the swap of what is in a cgroup, which must be there. */
export function countsSwap({ v1, v2 }: CgroupTree, cgroup: string): boolean {
  const memory = v1.get("memory");
  const file = memory === undefined ? join(v2, cgroup, v2File) : join(memory, cgroup, "memory.memsw.limit_in_bytes");
  // To look there waits for nothing.
  return existsSync(file);
}

/** `wanted`, of a new container or a change of one that has `before`. A limit of swap that was asked for stays. */
export function withoutSwap(wanted: Resources, before?: Resources): Resources {
  if (wanted.memoryLimit === 0n || wanted.memorySwapLimit !== 0n) return wanted;
  if (wanted.unified.has(v2File) || before?.unified.has(v2File)) return wanted;
  const had = before?.memorySwapLimit ?? 0n;
  return had === 0n || had === before?.memoryLimit ? { ...wanted, memorySwapLimit: wanted.memoryLimit } : wanted;
}
