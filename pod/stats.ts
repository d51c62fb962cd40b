// Stats of containers and pods: read from cgroup files in one batch, counted against the sample before.
// Sources: cgroup-v2.rst, cgroup-v1/memory.rst, cpuacct.rst; proc(5) net/dev.

import { join } from "node:path";
import type { Host } from "../native/index.ts";
import type { CgroupTree } from "./cgroups.ts";
import type { CpuStats, InterfaceStats, MemoryStats, Pressure, PressureLine, SwapStats } from "./types.ts";

export interface CgroupStats {
  readonly cpu: CpuStats;
  readonly memory: MemoryStats;
  readonly swap?: SwapStats;
  readonly ioPressure?: Pressure;
  readonly processCount: bigint;
}

/** How old the earlier sample must be before a rate means something, nanoseconds. */
const minInterval = 100_000_000n;
/** Nothing limits memory above this (v1 writes "no limit" as a number near 2^63). */
const noLimit = 1n << 62n;
const fileLimit = 64 << 10;

interface Sample {
  readonly timestamp: bigint;
  readonly usage: bigint;
  readonly rate?: bigint;
}

export class CgroupReader {
  readonly #host: Host;
  readonly #tree: CgroupTree;
  readonly #clock: () => bigint;
  readonly #samples = new Map<string, Sample>();

  constructor(host: Host, tree: CgroupTree, clock: () => bigint) {
    this.#host = host;
    this.#tree = tree;
    this.#clock = clock;
  }

  /** One answer for each cgroup, in order; undefined for one that is gone. */
  async read(cgroups: readonly string[]): Promise<(CgroupStats | undefined)[]> {
    const files = this.#tree.unified ? v2Files : v1Files;
    const names = Object.keys(files);
    const paths = cgroups.flatMap((cgroup) => names.map((name) => this.#path(files[name] ?? "", name, cgroup)));
    const contents = await this.#host.readFiles(paths, fileLimit);
    const timestamp = this.#clock();
    return cgroups.map((cgroup, index) => {
      const texts = new Map<string, string>();
      for (const [at, name] of names.entries()) {
        const content = contents[index * names.length + at];
        if (content !== null && content !== undefined) texts.set(name, content.toString("latin1"));
      }
      if (!texts.has("memory.usage_in_bytes") && !texts.has("memory.current")) return undefined;
      const stats = this.#tree.unified ? parseV2(texts, timestamp) : parseV1(texts, timestamp);
      return { ...stats, cpu: this.#withRate(cgroup, stats.cpu) };
    });
  }

  forget(cgroup: string): void {
    this.#samples.delete(cgroup);
  }

  /** `controller` is empty for files of cgroup v2. */
  #path(controller: string, name: string, cgroup: string): string {
    const root = controller === "" ? this.#tree.v2 : (this.#tree.v1.get(controller) ?? "/nonexistent");
    return join(root, cgroup, name);
  }

  #withRate(cgroup: string, cpu: CpuStats): CpuStats {
    const before = this.#samples.get(cgroup);
    const now = { timestamp: cpu.timestamp, usage: cpu.usageCoreNanoSeconds };
    if (before === undefined) {
      this.#samples.set(cgroup, now);
      return cpu;
    }
    const elapsed = now.timestamp - before.timestamp;
    if (elapsed < minInterval) return before.rate === undefined ? cpu : { ...cpu, usageNanoCores: before.rate };
    const used = now.usage > before.usage ? now.usage - before.usage : 0n;
    const rate = (used * 1_000_000_000n) / elapsed;
    this.#samples.set(cgroup, { ...now, rate });
    return { ...cpu, usageNanoCores: rate };
  }
}

/** File name to v1 controller. */
const v1Files: Readonly<Record<string, string>> = {
  "cpuacct.usage": "cpuacct",
  "memory.usage_in_bytes": "memory",
  "memory.limit_in_bytes": "memory",
  "memory.stat": "memory",
  "memory.memsw.usage_in_bytes": "memory",
  "memory.memsw.limit_in_bytes": "memory",
  "pids.current": "pids",
};

const v2Files: Readonly<Record<string, string>> = {
  "cpu.stat": "",
  "cpu.pressure": "",
  "memory.current": "",
  "memory.max": "",
  "memory.stat": "",
  "memory.pressure": "",
  "memory.swap.current": "",
  "memory.swap.max": "",
  "io.pressure": "",
  "pids.current": "",
};

type Texts = ReadonlyMap<string, string>;

function parseV1(texts: Texts, timestamp: bigint): CgroupStats {
  const usage = number(texts.get("memory.usage_in_bytes"));
  const limit = number(texts.get("memory.limit_in_bytes"));
  const stat = keyed(texts.get("memory.stat"));
  const workingSet = less(usage, stat.get("total_inactive_file") ?? 0n);
  const swapTotal = texts.get("memory.memsw.usage_in_bytes");
  const swapLimit = number(texts.get("memory.memsw.limit_in_bytes"));
  return {
    cpu: { timestamp, usageCoreNanoSeconds: number(texts.get("cpuacct.usage")) },
    memory: {
      timestamp,
      usageBytes: usage,
      workingSetBytes: workingSet,
      ...(limit > 0n && limit < noLimit ? { availableBytes: less(limit, workingSet) } : {}),
      rssBytes: stat.get("total_rss") ?? 0n,
      pageFaults: stat.get("total_pgfault") ?? 0n,
      majorPageFaults: stat.get("total_pgmajfault") ?? 0n,
    },
    ...(swapTotal === undefined
      ? {}
      : {
          swap: {
            timestamp,
            usageBytes: less(number(swapTotal), usage),
            ...(swapLimit > 0n && swapLimit < noLimit ? { availableBytes: less(swapLimit, number(swapTotal)) } : {}),
          },
        }),
    processCount: number(texts.get("pids.current")),
  };
}

function parseV2(texts: Texts, timestamp: bigint): CgroupStats {
  const usage = number(texts.get("memory.current"));
  const limit = number(texts.get("memory.max"));
  const stat = keyed(texts.get("memory.stat"));
  const cpu = keyed(texts.get("cpu.stat"));
  const workingSet = less(usage, stat.get("inactive_file") ?? 0n);
  const swap = texts.get("memory.swap.current");
  const swapLimit = number(texts.get("memory.swap.max"));
  const cpuPressure = pressure(texts.get("cpu.pressure"));
  const memoryPressure = pressure(texts.get("memory.pressure"));
  const ioPressure = pressure(texts.get("io.pressure"));
  return {
    cpu: {
      timestamp,
      usageCoreNanoSeconds: (cpu.get("usage_usec") ?? 0n) * 1000n,
      ...(cpuPressure === undefined ? {} : { pressure: cpuPressure }),
    },
    memory: {
      timestamp,
      usageBytes: usage,
      workingSetBytes: workingSet,
      ...(limit > 0n ? { availableBytes: less(limit, workingSet) } : {}),
      rssBytes: stat.get("anon") ?? 0n,
      pageFaults: stat.get("pgfault") ?? 0n,
      majorPageFaults: stat.get("pgmajfault") ?? 0n,
      ...(memoryPressure === undefined ? {} : { pressure: memoryPressure }),
    },
    ...(swap === undefined
      ? {}
      : {
          swap: {
            timestamp,
            usageBytes: number(swap),
            ...(swapLimit > 0n ? { availableBytes: less(swapLimit, number(swap)) } : {}),
          },
        }),
    ...(ioPressure === undefined ? {} : { ioPressure }),
    processCount: number(texts.get("pids.current")),
  };
}

/** 0 for what is missing or not a number ("max"). */
function number(text: string | undefined): bigint {
  return text !== undefined && /^\d+\s*$/.test(text) ? BigInt(text.trim()) : 0n;
}

function less(from: bigint, amount: bigint): bigint {
  return from > amount ? from - amount : 0n;
}

function keyed(text: string | undefined): Map<string, bigint> {
  const values = new Map<string, bigint>();
  for (const line of (text ?? "").split("\n")) {
    const [key, value] = line.split(" ");
    if (key && value !== undefined && /^\d+$/.test(value)) values.set(key, BigInt(value));
  }
  return values;
}

/** "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and the same for full (psi.rst). */
function pressure(text: string | undefined): Pressure | undefined {
  const line = (kind: string): PressureLine | undefined => {
    const match = new RegExp(`^${kind} avg10=(\\S+) avg60=(\\S+) avg300=(\\S+) total=(\\d+)`, "m").exec(text ?? "");
    if (match === null) return undefined;
    return {
      avg10: Number(match[1]),
      avg60: Number(match[2]),
      avg300: Number(match[3]),
      total: BigInt(match[4] ?? "0"),
    };
  };
  const some = line("some");
  return some === undefined ? undefined : { some, full: line("full") ?? { avg10: 0, avg60: 0, avg300: 0, total: 0n } };
}

/** /proc/PID/net/dev: two header lines, then "name: 8 receive columns, 8 transmit columns". */
export function parseInterfaces(netDev: string): InterfaceStats[] {
  return netDev
    .split("\n")
    .slice(2)
    .flatMap((line) => {
      const [name, columns] = line.split(":");
      const counts = (columns ?? "").trim().split(/\s+/);
      if (name === undefined || counts.length < 16) return [];
      const at = (index: number) => BigInt(counts[index] ?? "0");
      return [{ name: name.trim(), rxBytes: at(0), rxErrors: at(2), txBytes: at(8), txErrors: at(10) }];
    });
}
