// Container metrics for ListPodSandboxMetrics beyond stats: CPU throttling, memory types, block devices, huge pages,
// threads, descriptors. They are more expensive to read than stats, and only read for that call.
// Sources: cgroup-v2.rst; cgroup-v1/{memory,cpuacct,hugetlb,pids,blkio-controller}.rst; proc_pid_limits(5).

import { readdir, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { OpenDescriptors } from "../../native/index.ts";
import type { Container } from "../container.ts";
import { deviceNumbers } from "../device-numbers.ts";
import type { Environment } from "../environment.ts";
import {
  type Figures,
  type FiguresByController,
  hierarchy,
  noLimit,
  readFigures,
  WantedFigures,
} from "./cgroup-figures.ts";
import type { BlockDeviceUse, ContainerMetrics, FileSystemSize, HugepageUse } from "./types.ts";

/** Enough for a cgroup.procs with 10,000 processes, and for all other files. */
const fileLimit = 128 << 10;
/** Per container; with more descriptors, none are counted. */
const descriptorLimit = 100_000;

type Place = Pick<Environment, "host" | "cgroups">;
type Subject = Pick<Container, "cgroup" | "phase">;

/**
 * Returns one result per container, in order; undefined for a container that is not running. `hugepages`: the kernel's
 * directory with one entry for each size.
 */
export async function metricsOfContainers(
  place: Place,
  containers: readonly Subject[],
  hugepages = "/sys/kernel/mm/hugepages",
): Promise<(ContainerMetrics | undefined)[]> {
  const { host, cgroups } = place;
  const pageSizes = await hugepageSizes(hugepages);
  const [version, parse] = cgroups.unified ? [v2Figures(pageSizes), parseV2] : [v1Figures(pageSizes), parseV1];
  const [figures, texts] = await Promise.all([
    readFigures(
      host.readFigures,
      new WantedFigures(cgroups, version),
      containers.map(({ cgroup }) => cgroup),
    ),
    Promise.all(containers.map((container) => readTexts(place, container))),
  ]);
  const [descriptors, names] = await Promise.all([
    Promise.all(texts.map(({ processes }) => countDescriptors(place, processes))),
    namesOfDevices(
      host,
      texts.flatMap(({ devices }) => devices.map(({ numbers }) => numbers)),
    ),
  ]);
  return containers.map(({ phase }, index) => {
    const [own, text, open] = [figures[index], texts[index], descriptors[index]];
    if (phase.state !== "running" || own === undefined || own.empty || text === undefined) return undefined;
    return {
      ...parse(own, pageSizes),
      processes: BigInt(text.processes.length),
      threads: own.get("pids.current") ?? 0n,
      threadsMax: own.get("pids.max") ?? 0n,
      devices: text.devices.map(({ numbers, ...use }) => ({ ...deviceOf(numbers, names), ...use })),
      ...(open === undefined ? {} : { descriptors: open }),
      ...(text.openFilesLimit === undefined ? {} : { openFilesLimit: text.openFilesLimit }),
    };
  });
}

/** A mounted file system. */
export async function fileSystemSize(host: Place["host"], mountpoint: string): Promise<FileSystemSize> {
  const [{ dev }, { bsize, blocks, files, ffree }] = await Promise.all([
    stat(mountpoint, { bigint: true }),
    statfs(mountpoint, { bigint: true }),
  ]);
  const { major, minor } = deviceNumbers(dev);
  const numbers = `${major}:${minor}`;
  const device = (await namesOfDevices(host, [numbers])).get(numbers) ?? mountpoint;
  return { device, limitBytes: bsize * blocks, inodes: files, inodesFree: ffree };
}

function v1Figures(pageSizes: readonly string[]): FiguresByController {
  return {
    cpuacct: ["cpuacct.usage_user", "cpuacct.usage_sys"],
    cpu: ["nr_periods", "nr_throttled", "throttled_time"].map((key) => `cpu.stat ${key}`),
    memory: [
      ...["total_cache", "total_mapped_file", "total_active_file", "total_inactive_file"].map(
        (key) => `memory.stat ${key}`,
      ),
      ...["memory.max_usage_in_bytes", "memory.failcnt", "memory.kmem.usage_in_bytes"],
      ...["memory.oom_control oom_kill", "memory.soft_limit_in_bytes"],
    ],
    pids: ["pids.current", "pids.max"],
    hugetlb: pageSizes.flatMap((size) => [`hugetlb.${size}.usage_in_bytes`, `hugetlb.${size}.max_usage_in_bytes`]),
  };
}

function v2Figures(pageSizes: readonly string[]): FiguresByController {
  const cpu = ["user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec"];
  const all = [
    ...cpu.map((key) => `cpu.stat ${key}`),
    ...["file", "file_mapped", "active_file", "inactive_file", "kernel"].map((key) => `memory.stat ${key}`),
    ...["memory.peak", "memory.events max", "memory.events oom_kill", "memory.low", "pids.current", "pids.max"],
    ...pageSizes.map((size) => `hugetlb.${size}.current`),
  ];
  return { "": all };
}

function parseV1(figures: Figures, pageSizes: readonly string[]) {
  const value = (figure: string) => figures.get(figure) ?? 0n;
  const reservation = value("memory.soft_limit_in_bytes");
  return {
    cpu: {
      userNanoSeconds: value("cpuacct.usage_user"),
      systemNanoSeconds: value("cpuacct.usage_sys"),
      periods: value("cpu.stat nr_periods"),
      throttledPeriods: value("cpu.stat nr_throttled"),
      throttledNanoSeconds: value("cpu.stat throttled_time"),
    },
    memory: {
      cacheBytes: value("memory.stat total_cache"),
      mappedFileBytes: value("memory.stat total_mapped_file"),
      activeFileBytes: value("memory.stat total_active_file"),
      inactiveFileBytes: value("memory.stat total_inactive_file"),
      kernelBytes: value("memory.kmem.usage_in_bytes"),
      maxUsageBytes: value("memory.max_usage_in_bytes"),
      limitHits: value("memory.failcnt"),
      oomKills: value("memory.oom_control oom_kill"),
      reservationBytes: reservation < noLimit ? reservation : 0n,
    },
    hugepages: pageSizes.flatMap((pageSize): HugepageUse[] => {
      const usageBytes = figures.get(`hugetlb.${pageSize}.usage_in_bytes`);
      if (usageBytes === undefined) return [];
      return [{ pageSize, usageBytes, maxUsageBytes: value(`hugetlb.${pageSize}.max_usage_in_bytes`) }];
    }),
  };
}

function parseV2(figures: Figures, pageSizes: readonly string[]) {
  const value = (figure: string) => figures.get(figure) ?? 0n;
  const peak = figures.get("memory.peak");
  return {
    cpu: {
      userNanoSeconds: value("cpu.stat user_usec") * 1000n,
      systemNanoSeconds: value("cpu.stat system_usec") * 1000n,
      periods: value("cpu.stat nr_periods"),
      throttledPeriods: value("cpu.stat nr_throttled"),
      throttledNanoSeconds: value("cpu.stat throttled_usec") * 1000n,
    },
    memory: {
      cacheBytes: value("memory.stat file"),
      mappedFileBytes: value("memory.stat file_mapped"),
      activeFileBytes: value("memory.stat active_file"),
      inactiveFileBytes: value("memory.stat inactive_file"),
      kernelBytes: value("memory.stat kernel"),
      ...(peak === undefined ? {} : { maxUsageBytes: peak }),
      limitHits: value("memory.events max"),
      oomKills: value("memory.events oom_kill"),
      reservationBytes: value("memory.low"),
    },
    hugepages: pageSizes.flatMap((pageSize): HugepageUse[] => {
      const usageBytes = figures.get(`hugetlb.${pageSize}.current`);
      return usageBytes === undefined ? [] : [{ pageSize, usageBytes }];
    }),
  };
}

type NumberedUse = Omit<BlockDeviceUse, "device" | "major" | "minor"> & {
  /** Major and minor number, "8:0". */
  readonly numbers: string;
};

/** Reads what `readFigures` cannot: lists, and a limit inside a text file. */
async function readTexts({ host, cgroups }: Place, { cgroup, phase }: Subject) {
  const file = (controller: string, name: string) => join(hierarchy(cgroups, controller), cgroup, name);
  const [processes, limits, ...io] = await host.readFiles(
    [
      file("pids", "cgroup.procs"),
      `/proc/${phase.state === "running" ? phase.pid : 0}/limits`,
      ...(cgroups.unified ? [file("", "io.stat")] : v1DeviceFiles.map((name) => file("blkio", name))),
    ],
    fileLimit,
  );
  const [first = "", second = ""] = io.map((content) => content?.toString("latin1"));
  const openFiles = /^Max open files +(\d+)/m.exec(limits?.toString("latin1") ?? "")?.[1];
  return {
    processes: lines(processes?.toString("latin1")),
    devices: cgroups.unified ? devicesV2(first) : devicesV1(first, second),
    ...(openFiles === undefined ? {} : { openFilesLimit: BigInt(openFiles) }),
  };
}

const v1DeviceFiles = ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"];

/** Lines "8:0 Read 4096", one for each operation, and a total. */
function devicesV1(serviceBytes: string, serviced: string): NumberedUse[] {
  const bytes = operations(serviceBytes);
  return [...operations(serviced)].map(([numbers, count]) => {
    const moved = bytes.get(numbers);
    return {
      numbers,
      reads: count.get("Read") ?? 0n,
      writes: count.get("Write") ?? 0n,
      readBytes: moved?.get("Read") ?? 0n,
      writtenBytes: moved?.get("Write") ?? 0n,
    };
  });
}

function operations(text: string): Map<string, Map<string, bigint>> {
  const devices = new Map<string, Map<string, bigint>>();
  for (const line of lines(text)) {
    const [, numbers = "", operation = "", value = ""] = /^(\d+:\d+) (\w+) (\d+)$/.exec(line) ?? [];
    if (numbers === "") continue;
    const of = devices.get(numbers) ?? new Map<string, bigint>();
    devices.set(numbers, of.set(operation, BigInt(value)));
  }
  return devices;
}

/** "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0" */
function devicesV2(stat: string): NumberedUse[] {
  return lines(stat).flatMap((line) => {
    const numbers = /^\d+:\d+/.exec(line)?.[0];
    if (numbers === undefined) return [];
    const value = (key: string) => BigInt(new RegExp(` ${key}=(\\d+)`).exec(line)?.[1] ?? "0");
    const [reads, writes, readBytes, writtenBytes] = [value("rios"), value("wios"), value("rbytes"), value("wbytes")];
    return [{ numbers, reads, writes, readBytes, writtenBytes }];
  });
}

/** From major and minor number ("8:0") to the device name, if the host has one. */
type DeviceNames = ReadonlyMap<string, string>;

function deviceOf(numbers: string, names: DeviceNames) {
  const [major = "", minor = ""] = numbers.split(":");
  return { device: names.get(numbers) ?? numbers, major, minor };
}

async function namesOfDevices(
  host: Pick<Environment["host"], "readFiles">,
  numbers: readonly string[],
): Promise<DeviceNames> {
  const all = [...new Set(numbers)];
  const paths = all.map((one) => join("/sys/dev/block", one, "uevent"));
  const contents = await host.readFiles(paths, fileLimit);
  const names = contents.map((content) => /^DEVNAME=(.+)$/m.exec(content?.toString() ?? "")?.[1]);
  return new Map(all.flatMap((one, index) => (names[index] === undefined ? [] : [[one, `/dev/${names[index]}`]])));
}

/** Undefined when there are too many. */
async function countDescriptors({ host }: Place, pids: readonly string[]): Promise<OpenDescriptors | undefined> {
  const directories = pids.map((pid) => `/proc/${pid}/fd`);
  return await host.countDescriptors(directories, descriptorLimit).catch(() => undefined);
}

/** In the form of cgroup file names: 2MB, 1GB. */
async function hugepageSizes(directory: string): Promise<string[]> {
  const entries = await readdir(directory).catch(() => []);
  return entries.flatMap((entry) => {
    const kibibytes = Number(/^hugepages-(\d+)kB$/.exec(entry)?.[1] ?? 0);
    if (kibibytes === 0) return [];
    if (kibibytes >= 1 << 20) return [`${kibibytes >> 20}GB`];
    return [kibibytes >= 1 << 10 ? `${kibibytes >> 10}MB` : `${kibibytes}KB`];
  });
}

function lines(text: string | undefined): string[] {
  return (text ?? "").split("\n").filter((line) => line !== "");
}
