// Measurements → protobuf. Only the numbers are encoded each time; the encoded attributes of the sandbox or container
// are cached.

import type { FileSystemUse } from "../../image/types.ts";
import type {
  ContainerStats,
  CpuStats,
  InterfaceStats,
  MemoryStats,
  Pressure,
  PressureLine,
  SandboxStats,
} from "../../pod/stats/types.ts";
import type { ContainerEncoder } from "./encode-container.ts";
import { toLong } from "./encode-fields.ts";
import type { SandboxEncoder } from "./encode-sandbox.ts";
import { messageField } from "./encoded.ts";
import { runtime } from "./generated/messages.js";

/** A ContainerStats message, as field `number` of another message. */
export function encodeContainerStats(stats: ContainerStats, containers: ContainerEncoder, number: number): Buffer {
  const measured = runtime.v1.ContainerStats.encode({
    cpu: stats.cpu ? cpuUsage(stats.cpu) : null,
    memory: stats.memory ? memoryUsage(stats.memory) : null,
    writableLayer: stats.writableLayer ? encodeFileSystemUse(stats.writableLayer) : null,
    swap: stats.swap
      ? {
          timestamp: toLong(stats.swap.timestamp),
          swapAvailableBytes: optional(stats.swap.availableBytes),
          swapUsageBytes: counter(stats.swap.usageBytes),
        }
      : null,
    io: stats.ioPressure ? ioUsage(stats.ioPressure, stats.cpu?.timestamp) : null,
  }).finish();
  return messageField(number, containers.attributes(stats.container), measured);
}

/** A PodSandboxStats message, as field 1 of another message. */
export function encodeSandboxStats(
  stats: SandboxStats,
  sandboxes: SandboxEncoder,
  containers: ContainerEncoder,
): Buffer {
  const { cpu, memory, network, processCount } = stats;
  const measured = runtime.v1.LinuxPodSandboxStats.encode({
    cpu: cpu ? cpuUsage(cpu) : null,
    memory: memory ? memoryUsage(memory) : null,
    network: network
      ? {
          timestamp: toLong(network.timestamp),
          defaultInterface: interfaceUsage(network.defaultInterface),
          interfaces: network.interfaces.map(interfaceUsage),
        }
      : null,
    process:
      processCount === undefined
        ? null
        : { timestamp: toLong(cpu?.timestamp ?? 0n), processCount: counter(processCount) },
    io: stats.ioPressure ? ioUsage(stats.ioPressure, cpu?.timestamp) : null,
  }).finish();
  const linux = [measured, ...stats.containers.map((container) => encodeContainerStats(container, containers, 5))];
  return messageField(1, sandboxes.attributes(stats.sandbox), messageField(2, ...linux));
}

export function encodeFileSystemUse(use: FileSystemUse): runtime.v1.FilesystemUsage.$Properties {
  return {
    timestamp: toLong(use.timestamp),
    fsId: { mountpoint: use.mountpoint },
    usedBytes: counter(use.usedBytes),
    inodesUsed: counter(use.inodesUsed),
  };
}

function cpuUsage(cpu: CpuStats): runtime.v1.CpuUsage.$Properties {
  return {
    timestamp: toLong(cpu.timestamp),
    usageCoreNanoSeconds: counter(cpu.usageCoreNanoSeconds),
    usageNanoCores: optional(cpu.usageNanoCores),
    psi: cpu.pressure ? psiStats(cpu.pressure) : null,
  };
}

function memoryUsage(memory: MemoryStats): runtime.v1.MemoryUsage.$Properties {
  return {
    timestamp: toLong(memory.timestamp),
    workingSetBytes: counter(memory.workingSetBytes),
    availableBytes: optional(memory.availableBytes),
    usageBytes: counter(memory.usageBytes),
    rssBytes: counter(memory.rssBytes),
    pageFaults: counter(memory.pageFaults),
    majorPageFaults: counter(memory.majorPageFaults),
    psi: memory.pressure ? psiStats(memory.pressure) : null,
  };
}

function ioUsage(pressure: Pressure, timestamp: bigint | undefined): runtime.v1.IoUsage.$Properties {
  return { timestamp: toLong(timestamp ?? 0n), psi: psiStats(pressure) };
}

function interfaceUsage(usage: InterfaceStats): runtime.v1.NetworkInterfaceUsage.$Properties {
  return {
    name: usage.name,
    rxBytes: counter(usage.rxBytes),
    rxErrors: counter(usage.rxErrors),
    txBytes: counter(usage.txBytes),
    txErrors: counter(usage.txErrors),
  };
}

function psiStats(pressure: Pressure): runtime.v1.PsiStats.$Properties {
  return { Full: psiData(pressure.full), Some: psiData(pressure.some) };
}

/** CRI's total is in nanoseconds, the kernel's in microseconds. */
function psiData(line: PressureLine): runtime.v1.PsiData.$Properties {
  return { Total: toLong(line.total * 1000n), Avg10: line.avg10, Avg60: line.avg60, Avg300: line.avg300 };
}

function counter(value: bigint): runtime.v1.UInt64Value.$Properties {
  return { value: toLong(value) };
}

function optional(value: bigint | undefined): runtime.v1.UInt64Value.$Properties | null {
  return value === undefined ? null : counter(value);
}
