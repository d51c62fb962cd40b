// The swap limit when a client limits only memory: no swap, as in CRI-O and containerd. Otherwise memory beyond the
// limit would just be swapped out.
// Sources: CRI v1 LinuxContainerResources; OCI config-linux.md ("Memory"); cgroup-v2.rst (memory.swap.max).

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { CgroupTree } from "../../native/index.ts";
import type { Resources } from "../types.ts";

const v2File = "memory.swap.max";

/** Whether this kernel accounts swap per cgroup; `cgroup` must exist. */
export function countsSwap({ v1, v2 }: CgroupTree, cgroup: string): boolean {
  const memory = v1.get("memory");
  const file = memory === undefined ? join(v2, cgroup, v2File) : join(memory, cgroup, "memory.memsw.limit_in_bytes");
  // Synchronous, because cgroupfs does not block.
  return existsSync(file);
}

/** `wanted` is for a new container, or an update of one with `before`. An explicitly requested swap limit is kept. */
export function withoutSwap(wanted: Resources, before?: Resources): Resources {
  if (wanted.memoryLimit === 0n || wanted.memorySwapLimit !== 0n) return wanted;
  if (wanted.unified.has(v2File) || before?.unified.has(v2File)) return wanted;
  const had = before?.memorySwapLimit ?? 0n;
  return had === 0n || had === before?.memoryLimit ? { ...wanted, memorySwapLimit: wanted.memoryLimit } : wanted;
}
