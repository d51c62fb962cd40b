// Stats and metrics of containers and pods. Units are bytes and nanoseconds unless noted otherwise.

import type { FileSystemUse } from "../../image/types.ts";
import type { ContainerId, ContainerView, SandboxView } from "../types.ts";

/** From cgroup v2's pressure files; absent if the kernel has none. Totals in microseconds, as in the kernel. */
export interface Pressure {
  readonly some: PressureLine;
  readonly full: PressureLine;
}
export interface PressureLine {
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
  readonly total: bigint;
}

export interface CpuStats {
  readonly timestamp: bigint;
  readonly usageCoreNanoSeconds: bigint;
  /** Absent until two samples exist. */
  readonly usageNanoCores?: bigint;
  readonly pressure?: Pressure;
}

export interface MemoryStats {
  readonly timestamp: bigint;
  readonly workingSetBytes: bigint;
  /** Absent without a limit. */
  readonly availableBytes?: bigint;
  readonly usageBytes: bigint;
  readonly rssBytes: bigint;
  readonly pageFaults: bigint;
  readonly majorPageFaults: bigint;
  readonly pressure?: Pressure;
}

export interface SwapStats {
  readonly timestamp: bigint;
  readonly availableBytes?: bigint;
  readonly usageBytes: bigint;
}

export interface ContainerStats {
  readonly container: ContainerView;
  /** Absent when the container is not running. */
  readonly cpu?: CpuStats;
  readonly memory?: MemoryStats;
  readonly swap?: SwapStats;
  readonly ioPressure?: Pressure;
  readonly writableLayer?: FileSystemUse;
}

export interface InterfaceStats {
  readonly name: string;
  readonly rxBytes: bigint;
  readonly rxPackets: bigint;
  readonly rxErrors: bigint;
  readonly rxDropped: bigint;
  readonly txBytes: bigint;
  readonly txPackets: bigint;
  readonly txErrors: bigint;
  readonly txDropped: bigint;
}

export interface NetworkStats {
  readonly timestamp: bigint;
  readonly defaultInterface: InterfaceStats;
  /** All others, including loopback. */
  readonly interfaces: readonly InterfaceStats[];
}

export interface SandboxStats {
  readonly sandbox: SandboxView;
  readonly cpu?: CpuStats;
  readonly memory?: MemoryStats;
  readonly ioPressure?: Pressure;
  /** Absent for a pod with host networking, and for one that has no interface except loopback. */
  readonly network?: NetworkStats;
  readonly processCount?: bigint;
  readonly containers: readonly ContainerStats[];
}

/** Additional metrics of a running container. Optional members are absent if the kernel does not provide them. */
export interface ContainerMetrics {
  readonly cpu: {
    readonly userNanoSeconds: bigint;
    readonly systemNanoSeconds: bigint;
    /** Elapsed CFS periods, and those in which the container was throttled. */
    readonly periods: bigint;
    readonly throttledPeriods: bigint;
    readonly throttledNanoSeconds: bigint;
  };
  readonly memory: {
    readonly cacheBytes: bigint;
    readonly mappedFileBytes: bigint;
    readonly activeFileBytes: bigint;
    readonly inactiveFileBytes: bigint;
    readonly kernelBytes: bigint;
    readonly maxUsageBytes?: bigint;
    /** How often usage hit the limit. */
    readonly limitHits: bigint;
    readonly oomKills: bigint;
    /** 0 when unset. */
    readonly reservationBytes: bigint;
  };
  readonly hugepages: readonly HugepageUse[];
  readonly devices: readonly BlockDeviceUse[];
  readonly processes: bigint;
  readonly threads: bigint;
  /** 0 for no limit. */
  readonly threadsMax: bigint;
  /** Absent when there are too many to count. */
  readonly descriptors?: { readonly all: bigint; readonly sockets: bigint };
  /** Soft RLIMIT_NOFILE of its first process; absent when unlimited. */
  readonly openFilesLimit?: bigint;
}

export interface HugepageUse {
  /** 2MB, 1GB. */
  readonly pageSize: string;
  readonly usageBytes: bigint;
  readonly maxUsageBytes?: bigint;
}

export interface BlockDeviceUse {
  /** For example /dev/vda; "major:minor" if the host has no name for it. */
  readonly device: string;
  readonly major: string;
  readonly minor: string;
  readonly reads: bigint;
  readonly writes: bigint;
  readonly readBytes: bigint;
  readonly writtenBytes: bigint;
}

/** The file system of the containers' writable layers. */
export interface FileSystemSize {
  /** For example /dev/vda; the mount point if there is no block device. */
  readonly device: string;
  readonly limitBytes: bigint;
  readonly inodes: bigint;
  readonly inodesFree: bigint;
}

export interface SandboxMetrics {
  readonly stats: SandboxStats;
  readonly containers: ReadonlyMap<ContainerId, ContainerMetrics>;
  readonly fileSystem: FileSystemSize;
}
