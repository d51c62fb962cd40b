// Stats from the cgroup files of containers and pods: read in batches, with rates relative to the previous sample.
// Sources: cgroup-v2.rst, cgroup-v1/memory.rst, cpuacct.rst, psi.rst.

import type { CgroupTree, Host } from "../../native/index.ts";
import { inBatches } from "./batches.ts";
import { type Figures, type FiguresByController, noLimit, readFigures, WantedFigures } from "./cgroup-figures.ts";
import type { CpuStats, MemoryStats, Pressure, PressureLine, SwapStats } from "./types.ts";

export interface CgroupStats {
  readonly cpu: CpuStats;
  readonly memory: MemoryStats;
  readonly ioPressure?: Pressure;
  /** Only for containers. */
  readonly swap?: SwapStats;
  /** Only for pods. */
  readonly processCount?: bigint;
}

/** Minimum age of the previous sample for a meaningful rate, in nanoseconds. */
const minInterval = 1_000_000_000n;

interface Sample {
  readonly timestamp: bigint;
  readonly usage: bigint;
  readonly rate?: bigint;
}

export class CgroupReader {
  readonly #host: Host;
  readonly #clock: () => bigint;
  readonly #parse: typeof parseV1;
  readonly #wanted: Readonly<Record<"containers" | "pods", WantedFigures>>;
  readonly #samples = new Map<string, Sample>();

  constructor(host: Host, tree: CgroupTree, clock: () => bigint) {
    this.#host = host;
    this.#clock = clock;
    const [{ containers, pods }, parse] = tree.unified ? [v2Figures, parseV2] : [v1Figures, parseV1];
    this.#wanted = { containers: new WantedFigures(tree, containers), pods: new WantedFigures(tree, pods) };
    this.#parse = parse;
  }

  /** Returns one result per cgroup, in order; undefined for a cgroup that no longer exists. */
  async read(of: "containers" | "pods", cgroups: readonly string[]): Promise<(CgroupStats | undefined)[]> {
    return await inBatches(cgroups, (some) => this.#readBatch(this.#wanted[of], some));
  }

  forget(cgroup: string): void {
    this.#samples.delete(cgroup);
    void this.#host.forgetFigures([cgroup]);
  }

  async #readBatch(wanted: WantedFigures, cgroups: readonly string[]): Promise<(CgroupStats | undefined)[]> {
    const all = await readFigures(this.#host.readFiguresAgain, wanted, cgroups);
    const timestamp = this.#clock();
    return cgroups.map((cgroup, index) => {
      const figures = all[index];
      const stats = figures && this.#parse(figures, timestamp);
      return stats && withPressure({ ...stats, cpu: this.#withRate(cgroup, stats.cpu) }, figures);
    });
  }

  #withRate(cgroup: string, cpu: CpuStats): CpuStats {
    const before = this.#samples.get(cgroup);
    const now = { timestamp: cpu.timestamp, usage: cpu.usageCoreNanoSeconds };
    const elapsed = before === undefined ? 0n : now.timestamp - before.timestamp;
    // Replace a sample from before the clock was set back, or rates would stop until the clock catches up.
    if (before === undefined || elapsed < 0n) {
      this.#samples.set(cgroup, now);
      return cpu;
    }
    if (elapsed < minInterval) return before.rate === undefined ? cpu : { ...cpu, usageNanoCores: before.rate };
    const used = now.usage > before.usage ? now.usage - before.usage : 0n;
    const rate = (used * 1_000_000_000n) / elapsed;
    this.#samples.set(cgroup, { ...now, rate });
    return { ...cpu, usageNanoCores: rate };
  }
}

type FiguresOf = Readonly<Record<"containers" | "pods", FiguresByController>>;

const [cpuPressure, memoryPressure, ioPressure] = [
  pressureFile("cpu.pressure"),
  pressureFile("memory.pressure"),
  pressureFile("io.pressure"),
];
const pressures = [cpuPressure, memoryPressure, ioPressure].flatMap(({ some, full }) => [
  ...Object.values(some),
  ...Object.values(full),
]);

const v1Memory = [
  "memory.usage_in_bytes",
  "memory.limit_in_bytes",
  ...["total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault"].map((key) => `memory.stat ${key}`),
];

const v1Figures: FiguresOf = {
  containers: {
    cpuacct: ["cpuacct.usage"],
    memory: [...v1Memory, "memory.memsw.usage_in_bytes", "memory.memsw.limit_in_bytes"],
    "": pressures,
  },
  pods: { cpuacct: ["cpuacct.usage"], memory: v1Memory, pids: ["pids.current"], "": pressures },
};

const v2Both = [
  "cpu.stat usage_usec",
  "memory.current",
  "memory.max",
  ...["inactive_file", "anon", "pgfault", "pgmajfault"].map((key) => `memory.stat ${key}`),
  ...pressures,
];

const v2Figures: FiguresOf = {
  containers: { "": [...v2Both, "memory.swap.current", "memory.swap.max"] },
  pods: { "": [...v2Both, "pids.current"] },
};

function parseV1(figures: Figures, timestamp: bigint): CgroupStats | undefined {
  const usage = figures.get("memory.usage_in_bytes");
  if (usage === undefined) return undefined;
  const limit = figures.get("memory.limit_in_bytes") ?? 0n;
  const workingSet = less(usage, figures.get("memory.stat total_inactive_file") ?? 0n);
  const isLimited = limit > 0n && limit < noLimit;
  const sum = figures.get("memory.memsw.usage_in_bytes");
  const sumLimit = figures.get("memory.memsw.limit_in_bytes") ?? noLimit;
  const swap = less(sum ?? 0n, usage);
  return {
    cpu: { timestamp, usageCoreNanoSeconds: figures.get("cpuacct.usage") ?? 0n },
    memory: {
      timestamp,
      usageBytes: usage,
      workingSetBytes: workingSet,
      ...(isLimited ? { availableBytes: less(limit, workingSet) } : {}),
      rssBytes: figures.get("memory.stat total_rss") ?? 0n,
      pageFaults: figures.get("memory.stat total_pgfault") ?? 0n,
      majorPageFaults: figures.get("memory.stat total_pgmajfault") ?? 0n,
    },
    ...(sum === undefined
      ? {}
      : {
          swap: {
            timestamp,
            usageBytes: swap,
            ...(sumLimit < noLimit
              ? { availableBytes: isLimited ? less(sumLimit - limit, swap) : less(sumLimit, sum) }
              : {}),
          },
        }),
    ...processes(figures),
  };
}

function parseV2(figures: Figures, timestamp: bigint): CgroupStats | undefined {
  const usage = figures.get("memory.current");
  if (usage === undefined) return undefined;
  const limit = figures.get("memory.max") ?? 0n;
  const workingSet = less(usage, figures.get("memory.stat inactive_file") ?? 0n);
  const swap = figures.get("memory.swap.current");
  const swapLimit = figures.get("memory.swap.max");
  return {
    cpu: { timestamp, usageCoreNanoSeconds: (figures.get("cpu.stat usage_usec") ?? 0n) * 1000n },
    memory: {
      timestamp,
      usageBytes: usage,
      workingSetBytes: workingSet,
      ...(limit > 0n ? { availableBytes: less(limit, workingSet) } : {}),
      rssBytes: figures.get("memory.stat anon") ?? 0n,
      pageFaults: figures.get("memory.stat pgfault") ?? 0n,
      majorPageFaults: figures.get("memory.stat pgmajfault") ?? 0n,
    },
    ...(swap === undefined
      ? {}
      : {
          swap: {
            timestamp,
            usageBytes: swap,
            ...(swapLimit === undefined ? {} : { availableBytes: less(swapLimit, swap) }),
          },
        }),
    ...processes(figures),
  };
}

function processes(figures: Figures): { processCount?: bigint } {
  const processCount = figures.get("pids.current");
  return processCount === undefined ? {} : { processCount };
}

function less(from: bigint, amount: bigint): bigint {
  return from > amount ? from - amount : 0n;
}

/** "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and the same for full (psi.rst). */
function pressureFile(file: string) {
  const line = (kind: "some" | "full") => ({
    avg10: `${file} ${kind} avg10`,
    avg60: `${file} ${kind} avg60`,
    avg300: `${file} ${kind} avg300`,
    total: `${file} ${kind} total`,
  });
  return { some: line("some"), full: line("full") };
}

type PressureFile = ReturnType<typeof pressureFile>;

/** Adds pressure, which only v2 has. On a hybrid host the monitor creates every cgroup in the v2 hierarchy too. */
function withPressure(stats: CgroupStats, figures: Figures): CgroupStats {
  const cpu = pressure(cpuPressure, figures);
  const memory = pressure(memoryPressure, figures);
  const io = pressure(ioPressure, figures);
  return {
    ...stats,
    ...(cpu === undefined ? {} : { cpu: { ...stats.cpu, pressure: cpu } }),
    ...(memory === undefined ? {} : { memory: { ...stats.memory, pressure: memory } }),
    ...(io === undefined ? {} : { ioPressure: io }),
  };
}

function pressure({ some, full }: PressureFile, figures: Figures): Pressure | undefined {
  if (figures.get(some.total) === undefined) return undefined;
  return { some: pressureLine(some, figures), full: pressureLine(full, figures) };
}

function pressureLine(names: PressureFile["some"], figures: Figures): PressureLine {
  // A percentage with two decimals, of which Host.readFigures drops the decimal point.
  const average = (name: string) => Number(figures.get(name) ?? 0n) / 100;
  return {
    avg10: average(names.avg10),
    avg60: average(names.avg60),
    avg300: average(names.avg300),
    total: figures.get(names.total) ?? 0n,
  };
}
