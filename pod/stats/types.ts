// What stats and metrics tell of containers and pods. Bytes, and nanoseconds unless said otherwise.

import type { FileSystemUse } from "../../image/types.ts";
import type { ContainerId, ContainerView, SandboxView } from "../types.ts";

/** cgroup v2's pressure files; absent where the kernel has none. Totals in microseconds as the kernel counts. */
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
  /** Absent when the container does not run. */
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
  readonly defaultInterface?: InterfaceStats;
  /** All others, loopback among them. */
  readonly interfaces: readonly InterfaceStats[];
}

export interface SandboxStats {
  readonly sandbox: SandboxView;
  readonly cpu?: CpuStats;
  readonly memory?: MemoryStats;
  readonly ioPressure?: Pressure;
  /** Absent of a pod on the host's network. */
  readonly network?: NetworkStats;
  readonly processCount?: bigint;
  readonly containers: readonly ContainerStats[];
}

/** Of a running container, what metrics tell beyond stats. What this kernel does not count is absent. */
export interface ContainerMetrics {
  readonly cpu: {
    readonly userNanoSeconds: bigint;
    readonly systemNanoSeconds: bigint;
    /** CFS periods that have passed, and those of them in which it was throttled. */
    readonly periods: bigint;
    readonly throttledPeriods: bigint;
    readonly throttledNanoSeconds: bigint;
  };
  readonly memory: {
    readonly cacheBytes: bigint;
    readonly mappedFileBytes: bigint;
    readonly kernelBytes: bigint;
    readonly maxUsageBytes?: bigint;
    /** How often usage ran into the limit. */
    readonly limitHits: bigint;
    readonly oomKills: bigint;
    /** 0 when none is set. */
    readonly reservationBytes: bigint;
  };
  readonly hugepages: readonly HugepageUse[];
  readonly devices: readonly BlockDeviceUse[];
  readonly processes: bigint;
  readonly threads: bigint;
  /** 0 for no limit. */
  readonly threadsMax: bigint;
  /** Absent when they are too many to count. */
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
  /** /dev/vda; the two numbers where the host has no name for it. */
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
  /** /dev/vda; the mount point where no block device is below it. */
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
