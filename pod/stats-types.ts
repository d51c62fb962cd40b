// The figures of containers and pods, as stats give them. Bytes, and nanoseconds unless said otherwise.

import type { FileSystemUse } from "../image/types.ts";
import type { ContainerView, SandboxView } from "./types.ts";

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
  readonly rxErrors: bigint;
  readonly txBytes: bigint;
  readonly txErrors: bigint;
}

export interface SandboxStats {
  readonly sandbox: SandboxView;
  readonly cpu?: CpuStats;
  readonly memory?: MemoryStats;
  readonly ioPressure?: Pressure;
  readonly network?: {
    readonly timestamp: bigint;
    readonly defaultInterface?: InterfaceStats;
    readonly interfaces: readonly InterfaceStats[];
  };
  readonly processCount?: bigint;
  readonly containers: readonly ContainerStats[];
}
