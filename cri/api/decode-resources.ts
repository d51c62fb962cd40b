// LinuxContainerResources and its fields. Source: CRI v1; kernel limits from Documentation/admin-guide/cgroup-v2.rst.

import type Long from "long";
import type { Resources } from "../../pod/types.ts";
import { bigIntWithin, invalid, stringMap, toBigInt } from "./decode-fields.ts";
import type { runtime } from "./generated/messages.js";

const maxInt64 = 2n ** 63n - 1n;

export function decodeResources(
  message: runtime.v1.LinuxContainerResources.$Properties | null | undefined,
  field: string,
): Resources | undefined {
  if (!message) return undefined;
  return {
    cpuPeriod: microseconds(message.cpuPeriod, `${field}.cpu_period`, 0n, 1_000_000n),
    cpuQuota: microseconds(message.cpuQuota, `${field}.cpu_quota`, -1n, maxInt64),
    cpuShares: bigIntWithin(message.cpuShares, `${field}.cpu_shares`, 0n, maxInt64),
    memoryLimit: bigIntWithin(message.memoryLimitInBytes, `${field}.memory_limit_in_bytes`, -1n, maxInt64),
    memorySwapLimit: bigIntWithin(message.memorySwapLimitInBytes, `${field}.memory_swap_limit_in_bytes`, -1n, maxInt64),
    oomScoreAdj: bigIntWithin(message.oomScoreAdj, `${field}.oom_score_adj`, -1000n, 1000n),
    cpusetCpus: cpuList(message.cpusetCpus, `${field}.cpuset_cpus`),
    cpusetMems: cpuList(message.cpusetMems, `${field}.cpuset_mems`),
    hugepageLimits: (message.hugepageLimits ?? []).map((limit, index) => ({
      pageSize: pageSize(limit.pageSize, `${field}.hugepage_limits[${index}].page_size`),
      limit: toBigInt(limit.limit),
    })),
    unified: unified(message.unified, `${field}.unified`),
  };
}

/**
 * The resources that a kubelet has set on a pod's cgroup, which are only recorded. The kubelet subtracts the pod's
 * overhead from the values that it read there, even from -1 (no limit): so any negative value means no limit, and a
 * quota may be below the usual minimum.
 */
export function decodePodResources(
  message: runtime.v1.LinuxContainerResources.$Properties | null | undefined,
  field: string,
): Resources | undefined {
  const resources = decodeResources(message && { ...message, cpuQuota: null, memoryLimitInBytes: null }, field);
  return (
    resources && {
      ...resources,
      cpuQuota: limitOf(message?.cpuQuota),
      memoryLimit: limitOf(message?.memoryLimitInBytes),
    }
  );
}

function limitOf(value: Long | null | undefined): bigint {
  const number = toBigInt(value);
  return number < 0n ? -1n : number;
}

/** The kernel accepts no period or quota below 1 ms. `none` is the value for no limit, in addition to 0 for unset. */
function microseconds(value: Long | null | undefined, field: string, none: bigint, most: bigint): bigint {
  const number = toBigInt(value);
  return number === 0n || number === none ? number : bigIntWithin(value, field, 1000n, most);
}

/** "0-3,7": the list format of cpuset(7). */
function cpuList(text: string | null | undefined, field: string): string {
  const list = text ?? "";
  if (!/^(\d+(-\d+)?(,\d+(-\d+)?)*)?$/.test(list)) throw invalid(field, list, "a list like 0-3,7");
  return list;
}

function pageSize(text: string | null | undefined, field: string): string {
  const size = text ?? "";
  if (!/^\d+[KMG]B$/.test(size)) throw invalid(field, size, "a page size like 2MB or 1GB");
  return size;
}

/** Keys become file names in the container's cgroup. */
function unified(map: Readonly<Record<string, string>> | null | undefined, field: string) {
  const files = stringMap(map);
  for (const name of files.keys()) {
    if (!/^[a-z0-9_]+(\.[a-zA-Z0-9_-]+)+$/.test(name))
      throw invalid(`${field} key`, name, "a cgroup file like memory.high");
  }
  return files;
}
