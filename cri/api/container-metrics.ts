// The metrics of a container: their names, which are cAdvisor's as used by dashboards, and how they are read.
// Sources: KEP-2371; cAdvisor docs/storage/prometheus.md.

import type { BlockDeviceUse, ContainerMetrics, ContainerStats, FileSystemSize } from "../../pod/stats/types.ts";
import type { Resources } from "../../pod/types.ts";
import { type Descriptor, plain, readings } from "./metric.ts";

export interface ContainerReading {
  readonly stats: ContainerStats;
  /** Absent if the container is not running. */
  readonly metrics: ContainerMetrics | undefined;
  readonly fileSystem: FileSystemSize;
}

const nanosecondsInSecond = 1_000_000_000n;
const microsecondsInSecond = 1_000_000n;

export const containerMetrics: readonly Descriptor<ContainerReading>[] = [
  plain("counter", "container_cpu_usage_seconds_total", "CPU time used, seconds.", ({ stats: { cpu } }) =>
    seconds(cpu?.usageCoreNanoSeconds),
  ),
  plain("counter", "container_cpu_user_seconds_total", "CPU time used outside the kernel, seconds.", ({ metrics }) =>
    seconds(metrics?.cpu.userNanoSeconds),
  ),
  plain("counter", "container_cpu_system_seconds_total", "CPU time used in the kernel, seconds.", ({ metrics }) =>
    seconds(metrics?.cpu.systemNanoSeconds),
  ),
  plain(
    "counter",
    "container_cpu_cfs_periods_total",
    "Elapsed enforcement periods of the CPU quota.",
    ({ metrics }) => metrics?.cpu.periods,
  ),
  plain(
    "counter",
    "container_cpu_cfs_throttled_periods_total",
    "Periods in which the container was throttled.",
    ({ metrics }) => metrics?.cpu.throttledPeriods,
  ),
  plain(
    "counter",
    "container_cpu_cfs_throttled_seconds_total",
    "Time the container was throttled, seconds.",
    ({ metrics }) => seconds(metrics?.cpu.throttledNanoSeconds),
  ),

  plain(
    "gauge",
    "container_memory_usage_bytes",
    "Memory charged, caches included.",
    ({ stats }) => stats.memory?.usageBytes,
  ),
  plain(
    "gauge",
    "container_memory_working_set_bytes",
    "Memory in use that cannot be reclaimed at once.",
    ({ stats }) => stats.memory?.workingSetBytes,
  ),
  plain("gauge", "container_memory_rss", "Anonymous memory, bytes.", ({ stats }) => stats.memory?.rssBytes),
  plain("gauge", "container_memory_cache", "Page cache, bytes.", ({ metrics }) => metrics?.memory.cacheBytes),
  plain(
    "gauge",
    "container_memory_mapped_file",
    "Mapped files, bytes.",
    ({ metrics }) => metrics?.memory.mappedFileBytes,
  ),
  plain(
    "gauge",
    "container_memory_total_active_file_bytes",
    "Page cache in recent use, bytes.",
    ({ metrics }) => metrics?.memory.activeFileBytes,
  ),
  plain(
    "gauge",
    "container_memory_total_inactive_file_bytes",
    "Page cache that the working set leaves out, bytes.",
    ({ metrics }) => metrics?.memory.inactiveFileBytes,
  ),
  plain(
    "gauge",
    "container_memory_kernel_usage",
    "Kernel memory, bytes.",
    ({ metrics }) => metrics?.memory.kernelBytes,
  ),
  plain("gauge", "container_memory_swap", "Swap in use, bytes.", ({ stats }) => stats.swap?.usageBytes),
  plain(
    "gauge",
    "container_memory_max_usage_bytes",
    "Peak memory charged.",
    ({ metrics }) => metrics?.memory.maxUsageBytes,
  ),
  plain(
    "counter",
    "container_memory_failcnt",
    "How often the memory limit was hit.",
    ({ metrics }) => metrics?.memory.limitHits,
  ),
  plain(
    "counter",
    "container_oom_events_total",
    "Processes killed by the OOM killer.",
    ({ metrics }) => metrics?.memory.oomKills,
  ),
  {
    name: "container_memory_failures_total",
    help: "Page faults.",
    kind: "counter",
    labels: ["failure_type", "scope"],
    read: ({ stats: { memory } }) => [
      ...readings(["pgfault", "hierarchy"], memory?.pageFaults),
      ...readings(["pgmajfault", "hierarchy"], memory?.majorPageFaults),
    ],
  },
  hugepages("container_hugetlb_usage_bytes", "Huge pages in use, bytes.", ({ usageBytes }) => usageBytes),
  hugepages("container_hugetlb_max_usage_bytes", "Peak huge pages in use, bytes.", (of) => of.maxUsageBytes),

  ofFileSystem(
    "container_fs_usage_bytes",
    "Bytes in the writable layer.",
    ({ stats }) => stats.writableLayer?.usedBytes,
  ),
  ofFileSystem(
    "container_fs_limit_bytes",
    "Size of the writable layer's file system.",
    (of) => of.fileSystem.limitBytes,
  ),
  ofFileSystem(
    "container_fs_inodes_used",
    "Inodes in the writable layer.",
    ({ stats }) => stats.writableLayer?.inodesUsed,
  ),
  ofFileSystem("container_fs_inodes_total", "Inodes of its file system.", ({ fileSystem }) => fileSystem.inodes),
  ofFileSystem(
    "container_fs_inodes_free",
    "Free inodes of its file system.",
    ({ fileSystem }) => fileSystem.inodesFree,
  ),
  ofDevices("container_fs_reads_total", "Reads completed.", ({ reads }) => reads),
  ofDevices("container_fs_reads_bytes_total", "Bytes read.", ({ readBytes }) => readBytes),
  ofDevices("container_fs_writes_total", "Writes completed.", ({ writes }) => writes),
  ofDevices("container_fs_writes_bytes_total", "Bytes written.", ({ writtenBytes }) => writtenBytes),
  {
    name: "container_blkio_device_usage_total",
    help: "Bytes read from and written to block devices.",
    kind: "counter",
    labels: ["device", "major", "minor", "operation"],
    read: ({ metrics }) =>
      (metrics?.devices ?? []).flatMap(({ device, major, minor, readBytes, writtenBytes }) => [
        { labels: [device, major, minor, "Read"], value: readBytes },
        { labels: [device, major, minor, "Write"], value: writtenBytes },
      ]),
  },

  plain("gauge", "container_processes", "Processes.", ({ metrics }) => metrics?.processes),
  plain("gauge", "container_threads", "Threads.", ({ metrics }) => metrics?.threads),
  plain(
    "gauge",
    "container_threads_max",
    "Maximum number of threads; 0 for no limit.",
    ({ metrics }) => metrics?.threadsMax,
  ),
  plain("gauge", "container_file_descriptors", "Open descriptors.", ({ metrics }) => metrics?.descriptors?.all),
  plain("gauge", "container_sockets", "Open sockets.", ({ metrics }) => metrics?.descriptors?.sockets),
  {
    name: "container_ulimits_soft",
    help: "Soft limits of its first process.",
    kind: "gauge",
    labels: ["ulimit"],
    read: ({ metrics }) => readings(["max_open_files"], metrics?.openFilesLimit),
  },

  plain(
    "gauge",
    "container_spec_cpu_period",
    "CFS period, microseconds.",
    limit(({ cpuPeriod }) => cpuPeriod),
  ),
  plain(
    "gauge",
    "container_spec_cpu_quota",
    "CFS quota, microseconds.",
    limit(({ cpuQuota }) => cpuQuota),
  ),
  plain(
    "gauge",
    "container_spec_cpu_shares",
    "CPU shares.",
    limit(({ cpuShares }) => cpuShares),
  ),
  plain(
    "gauge",
    "container_spec_memory_limit_bytes",
    "Memory limit.",
    limit(({ memoryLimit }) => memoryLimit),
  ),
  plain(
    "gauge",
    "container_spec_memory_reservation_limit_bytes",
    "Memory protected from reclaim as far as possible; 0 for none.",
    ({ metrics }) => metrics?.memory.reservationBytes,
  ),
  plain(
    "gauge",
    "container_spec_memory_swap_limit_bytes",
    "Limit of memory and swap.",
    limit(({ memorySwapLimit }) => memorySwapLimit),
  ),
  plain("gauge", "container_start_time_seconds", "Start time, seconds since the epoch.", ({ stats }) => {
    const { phase } = stats.container;
    return phase.state === "running" ? seconds(phase.startedAt) : undefined;
  }),
  plain("gauge", "container_last_seen", "Time of this reading, seconds since the epoch.", ({ stats: { cpu } }) =>
    seconds(cpu?.timestamp),
  ),
  ...pressureMetrics("cpu", "CPU", ({ cpu }) => cpu?.pressure),
  ...pressureMetrics("memory", "memory", ({ memory }) => memory?.pressure),
  ...pressureMetrics("io", "I/O", ({ ioPressure }) => ioPressure),
];

/** Whole seconds: fractions are truncated. */
function seconds(nanoseconds: bigint | undefined): bigint | undefined {
  return nanoseconds === undefined ? undefined : nanoseconds / nanosecondsInSecond;
}

/** 0 means "not set" and negative values "no limit": neither is reported. */
function limit(read: (resources: Resources) => bigint) {
  return ({ stats: { container } }: ContainerReading) => {
    const value = container.resources === undefined ? 0n : read(container.resources);
    return value > 0n ? value : undefined;
  };
}

function hugepages(
  name: string,
  help: string,
  pick: (use: ContainerMetrics["hugepages"][number]) => bigint | undefined,
): Descriptor<ContainerReading> {
  const read = ({ metrics }: ContainerReading) =>
    (metrics?.hugepages ?? []).flatMap((one) => readings([one.pageSize], pick(one)));
  return { name, help, kind: "gauge", labels: ["pagesize"], read };
}

function ofFileSystem(
  name: string,
  help: string,
  pick: (reading: ContainerReading) => bigint | undefined,
): Descriptor<ContainerReading> {
  const read = (reading: ContainerReading) => readings([reading.fileSystem.device], pick(reading));
  return { name, help, kind: "gauge", labels: ["device"], read };
}

function ofDevices(name: string, help: string, pick: (device: BlockDeviceUse) => bigint): Descriptor<ContainerReading> {
  const read = ({ metrics }: ContainerReading) =>
    (metrics?.devices ?? []).map((device) => ({ labels: [device.device], value: pick(device) }));
  return { name, help, kind: "counter", labels: ["device"], read };
}

function pressureMetrics(
  resource: string,
  words: string,
  read: (stats: ContainerStats) => { some: { total: bigint }; full: { total: bigint } } | undefined,
): Descriptor<ContainerReading>[] {
  const total = (kind: "some" | "full", stats: ContainerStats) => {
    const pressure = read(stats);
    return pressure === undefined ? undefined : pressure[kind].total / microsecondsInSecond;
  };
  return [
    plain(
      "counter",
      `container_pressure_${resource}_waiting_seconds_total`,
      `Time some process waited for ${words}, seconds.`,
      ({ stats }) => total("some", stats),
    ),
    plain(
      "counter",
      `container_pressure_${resource}_stalled_seconds_total`,
      `Time all processes waited for ${words}, seconds.`,
      ({ stats }) => total("full", stats),
    ),
  ];
}
