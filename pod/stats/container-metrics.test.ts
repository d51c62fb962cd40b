// Metrics beyond stats: the files of both cgroup versions, processes that exit meanwhile, files that a kernel lacks.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readlinkSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type CgroupTree, loadHost } from "../../native/index.ts";
import { Script } from "../testing/script.ts";
import { scriptedHost } from "../testing/scripted-host.ts";
import { fileSystemSize, metricsOfContainers } from "./container-metrics.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "keelson-metrics-"));
});
afterEach(async () => await rm(root, { recursive: true }));

async function files(contents: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, content] of Object.entries(contents)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
}

const tooMany = { all: -1n, sockets: -1n };
const running = { state: "running", startedAt: 1n, pid: process.pid } as const;

/** Metrics of containers in the cgroups `/a`, `/b` …; `counts` are the descriptors by pid. */
async function metrics(
  tree: Partial<CgroupTree>,
  phases: Parameters<typeof metricsOfContainers>[1][number]["phase"][],
  counts: Readonly<Record<string, { all: bigint; sockets: bigint }>> = {},
) {
  const host = {
    ...scriptedHost(new Script()),
    readFiles: loadHost().readFiles,
    countDescriptors: async (paths: readonly string[]) => {
      const sum = { all: 0n, sockets: 0n };
      for (const path of paths) {
        const count = counts[path.split("/")[2] ?? ""];
        if (count === tooMany) throw new Error("more than the limit");
        sum.all += count?.all ?? 0n;
        sum.sockets += count?.sockets ?? 0n;
      }
      return sum;
    },
  };
  const cgroups = { unified: true, v2: root, v1: new Map(), ...tree };
  const containers = phases.map((phase, index) => ({ cgroup: `/${"abc"[index]}`, phase }));
  return await metricsOfContainers({ host, cgroups }, containers, join(root, "hugepages"));
}

const pages = Object.fromEntries([64, 2048, 1048576].map((size) => [`hugepages/hugepages-${size}kB/free`, ""]));

test("cgroup v2: all metrics, converted to the units of the result", async () => {
  await files({
    ...pages,
    "a/cpu.stat": "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 10\nnr_throttled 3\nthrottled_usec 7\n",
    "a/memory.stat": "anon 1\nfile 2000\nfile_mapped 300\nkernel 40\nactive_file 5\ninactive_file 6\n",
    "a/memory.peak": "9000\n",
    "a/memory.events": "low 0\nhigh 0\nmax 6\noom 2\noom_kill 1\n",
    "a/memory.low": "512\n",
    "a/io.stat": "4095:1048575 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n4095:7 \n",
    "a/pids.current": "5\n",
    "a/pids.max": "max\n",
    "a/cgroup.procs": "11\n12\n13\n",
    "a/hugetlb.2MB.current": "2097152\n",
    "a/hugetlb.1GB.current": "0\n",
  });
  const counts = { 11: { all: 4n, sockets: 1n }, 13: { all: 6n, sockets: 2n } };
  const [of] = await metrics({}, [running], counts);
  expect(of).toMatchObject({
    cpu: { userNanoSeconds: 5000n, systemNanoSeconds: 4000n, periods: 10n, throttledPeriods: 3n },
    memory: { cacheBytes: 2000n, mappedFileBytes: 300n, kernelBytes: 40n, maxUsageBytes: 9000n },
    processes: 3n,
    threads: 5n,
    threadsMax: 0n,
    descriptors: { all: 10n, sockets: 3n },
  });
  const used = [
    { pageSize: "2MB", usageBytes: 2097152n },
    { pageSize: "1GB", usageBytes: 0n },
  ];
  expect(of?.hugepages.toSorted((a, b) => b.pageSize.localeCompare(a.pageSize))).toEqual(used);
  expect(of?.cpu.throttledNanoSeconds).toBe(7000n);
  expect(of?.memory).toMatchObject({ limitHits: 6n, oomKills: 1n, reservationBytes: 512n });
  expect(of?.memory).toMatchObject({ activeFileBytes: 5n, inactiveFileBytes: 6n });
  expect(of?.openFilesLimit).toBeGreaterThan(0n);
  expect(of?.devices[0]).toEqual({
    device: "4095:1048575",
    major: "4095",
    minor: "1048575",
    reads: 1n,
    writes: 2n,
    readBytes: 4096n,
    writtenBytes: 8192n,
  });
  expect(of?.devices[1]).toMatchObject({ device: "4095:7", reads: 0n, writtenBytes: 0n });
});

test("cgroup v1: each file from its controller's hierarchy; an unlimited reservation is 0", async () => {
  await files({
    ...pages,
    "hugetlb/a/hugetlb.64KB.usage_in_bytes": "65536\n",
    "hugetlb/a/hugetlb.64KB.max_usage_in_bytes": "131072\n",
    "cpuacct/a/cpuacct.usage_user": "5000\n",
    "cpuacct/a/cpuacct.usage_sys": "4000\n",
    "cpu/a/cpu.stat": "nr_periods 10\nnr_throttled 3\nthrottled_time 7000\n",
    "memory/a/memory.stat":
      "cache 1\ntotal_cache 2000\ntotal_mapped_file 300\ntotal_active_file 5\ntotal_inactive_file 6\n",
    "memory/a/memory.kmem.usage_in_bytes": "40\n",
    "memory/a/memory.max_usage_in_bytes": "9000\n",
    "memory/a/memory.failcnt": "6\n",
    "memory/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "memory/a/memory.soft_limit_in_bytes": "9223372036854771712\n",
    "blkio/a/blkio.throttle.io_service_bytes_recursive":
      "4095:7 Read 4096\n4095:7 Write 0\n4095:7 Total 4096\nTotal 4096\n",
    "blkio/a/blkio.throttle.io_serviced_recursive": "4095:7 Read 1\n4095:7 Write 0\n4095:7 Total 1\nTotal 1\n",
    "pids/a/pids.current": "2\n",
    "pids/a/pids.max": "100\n",
    "pids/a/cgroup.procs": "11\n",
  });
  const controllers = ["cpuacct", "cpu", "memory", "blkio", "pids", "hugetlb"];
  const v1 = new Map(controllers.map((controller) => [controller, join(root, controller)]));
  const [of] = await metrics({ unified: false, v1 }, [running], { 11: tooMany });
  expect(of).toMatchObject({
    cpu: { userNanoSeconds: 5000n, systemNanoSeconds: 4000n, periods: 10n, throttledPeriods: 3n },
    memory: { cacheBytes: 2000n, mappedFileBytes: 300n, kernelBytes: 40n, maxUsageBytes: 9000n, limitHits: 6n },
    hugepages: [{ pageSize: "64KB", usageBytes: 65536n, maxUsageBytes: 131072n }],
    devices: [{ device: "4095:7", reads: 1n, readBytes: 4096n, writes: 0n, writtenBytes: 0n }],
    processes: 1n,
    threads: 2n,
    threadsMax: 100n,
  });
  expect(of?.memory).toMatchObject({ oomKills: 1n, reservationBytes: 0n });
  expect(of?.memory).toMatchObject({ activeFileBytes: 5n, inactiveFileBytes: 6n });
  expect(of).not.toHaveProperty("descriptors");
});

test("the limit of open files is that of the container's process, and 10,000 processes are counted", async () => {
  await files({ "a/pids.current": "1\n", "a/cgroup.procs": "1234567\n".repeat(10_000) });
  const sleeper = spawn("prlimit", ["--nofile=123", "sleep", "60"]);
  try {
    await once(sleeper, "spawn");
    const limit = async () => (await metrics({}, [{ ...running, pid: sleeper.pid ?? 0 }]))[0];
    await expect.poll(async () => (await limit())?.openFilesLimit).toBe(123n);
    expect((await limit())?.processes).toBe(10_000n);
  } finally {
    sleeper.kill();
  }
});

const blockDevices = readdirSync("/sys/dev/block");

test.skipIf(blockDevices.length === 0)("a block device has the name of its node", async () => {
  const [numbers = ""] = blockDevices;
  await files({ "a/pids.current": "1\n", "a/io.stat": `${numbers} rbytes=1 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n` });
  const [of] = await metrics({}, [running]);
  const device = `/dev/${basename(readlinkSync(join("/sys/dev/block", numbers)))}`;
  expect(of?.devices).toMatchObject([{ device, major: numbers.split(":")[0], minor: numbers.split(":")[1] }]);
});

test("a file system's sizes are in bytes and inodes; one without a device has the name of its directory", async () => {
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m,nr_inodes=1000", "keelson-test", root]);
  try {
    await files({ one: "", two: "" });
    expect(await fileSystemSize(scriptedHost(new Script()), root)).toEqual({
      device: root,
      limitBytes: BigInt(8 << 20),
      inodes: 1000n,
      inodesFree: 997n,
    });
  } finally {
    execFileSync("umount", ["--lazy", root]);
  }
});

describe("containers without metrics", () => {
  test("a container that no longer exists or is not running does not affect the others", async () => {
    await files({
      "b/cgroup.procs": "1\n",
      "b/pids.current": "1\n",
      "c/cgroup.procs": "1\n2\n",
      "c/pids.current": "2\n",
    });
    const counts = { 1: { all: 1n, sockets: 0n }, 2: { all: 2n, sockets: 0n } };
    const [a, b, c] = await metrics({}, [running, { state: "created" }, running], counts);
    expect([a, b]).toEqual([undefined, undefined]);
    expect(c).toMatchObject({ processes: 2n, descriptors: { all: 3n } });
    // Linux before 5.19.
    expect(c?.memory).not.toHaveProperty("maxUsageBytes");
  });
});
