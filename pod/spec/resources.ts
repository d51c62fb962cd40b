// Converts CRI resources to OCI resources; unset values (0, "") are omitted.
// Sources: CRI v1 LinuxContainerResources; OCI config-linux.md ("Control groups").

import type { Resources } from "../types.ts";
import type { OciDeviceRule, OciResources } from "./oci.ts";

export function ociResources(resources: Resources | undefined, devices?: readonly OciDeviceRule[]): OciResources {
  return {
    ...(devices === undefined ? {} : { devices }),
    ...(resources === undefined ? {} : limits(resources)),
  };
}

/**
 * The largest number of whole pages below 2^63, which the kernel treats as no limit (page_counter.h). Larger numbers
 * would be rounded to 2^63 in config.json, which runtimes reject.
 */
const mostBytes = 2n ** 63n - 4096n;

function bytes(limit: bigint): number {
  return Number(limit < mostBytes ? limit : mostBytes);
}

function limits(resources: Resources): OciResources {
  const memory = {
    ...(resources.memoryLimit === 0n ? {} : { limit: bytes(resources.memoryLimit) }),
    ...(resources.memorySwapLimit === 0n ? {} : { swap: bytes(resources.memorySwapLimit) }),
  };
  const cpu = {
    ...(resources.cpuShares === 0n ? {} : { shares: Number(resources.cpuShares) }),
    ...(resources.cpuQuota === 0n ? {} : { quota: Number(resources.cpuQuota) }),
    ...(resources.cpuPeriod === 0n ? {} : { period: Number(resources.cpuPeriod) }),
    ...(resources.cpusetCpus === "" ? {} : { cpus: resources.cpusetCpus }),
    ...(resources.cpusetMems === "" ? {} : { mems: resources.cpusetMems }),
  };
  const hugepageLimits = resources.hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limit: bytes(limit) }));
  return {
    ...(isEmpty(memory) ? {} : { memory }),
    ...(isEmpty(cpu) ? {} : { cpu }),
    ...(hugepageLimits.length === 0 ? {} : { hugepageLimits }),
    ...(resources.unified.size === 0 ? {} : { unified: Object.fromEntries(resources.unified) }),
  };
}

function isEmpty(section: object): boolean {
  return Object.keys(section).length === 0;
}
