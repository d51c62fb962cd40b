// Stats: from the files of cgroup v2 and v1, rates between two samples, missing files and cgroups.

import { readdirSync, readlinkSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CgroupTree } from "../../native/index.ts";
import { runContainer, runPod, useNode } from "../testing/node.ts";
import { Script } from "../testing/script.ts";
import { scriptedHost } from "../testing/scripted-host.ts";
import { CgroupReader } from "./cgroup-reader.ts";

const second = 1_000_000_000n;
const node = useNode();

let root: string;
let now: bigint;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "keelson-stats-"));
  now = 100n * second;
});
afterEach(async () => await rm(root, { recursive: true }));

function reader(tree: Partial<CgroupTree>): CgroupReader {
  const whole = { unified: true, v2: root, v1: new Map(), ...tree };
  return new CgroupReader(scriptedHost(new Script()), whole, () => now);
}

async function files(contents: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, content] of Object.entries(contents)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
}

const pressureText =
  "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=7\n";
const pressure = {
  some: { avg10: 1.5, avg60: 0.25, avg300: 0, total: 77n },
  full: { avg10: 0.5, avg60: 0, avg300: 0, total: 7n },
};

describe("cgroup v2", () => {
  test("all files", async () => {
    await files({
      "p/cpu.stat": "usage_usec 1500\nuser_usec 1000\n",
      "p/cpu.pressure": pressureText,
      "p/memory.current": "1000\n",
      "p/memory.max": "5000\n",
      "p/memory.stat": "anon 300\ninactive_file 400\npgfault 9\npgmajfault 2\n",
      "p/memory.swap.current": "50\n",
      "p/memory.swap.max": "max\n",
      "p/io.pressure": pressureText,
      "p/pids.current": "3\n",
    });
    const both = {
      cpu: { timestamp: now, usageCoreNanoSeconds: 1_500_000n, pressure },
      memory: {
        timestamp: now,
        usageBytes: 1000n,
        workingSetBytes: 600n,
        availableBytes: 4400n,
        rssBytes: 300n,
        pageFaults: 9n,
        majorPageFaults: 2n,
      },
      ioPressure: pressure,
    };
    expect(await reader({}).read("containers", ["/p"])).toEqual([
      { ...both, swap: { timestamp: now, usageBytes: 50n } },
    ]);
    expect(await reader({}).read("pods", ["/p"])).toEqual([{ ...both, processCount: 3n }]);
  });

  test("without a limit there are no available bytes; a cache larger than the usage leaves an empty working set", async () => {
    await files({ "p/memory.current": "100\n", "p/memory.max": "max\n", "p/memory.stat": "inactive_file 400\n" });
    const [stats] = await reader({}).read("containers", ["/p"]);
    expect(stats?.memory).toMatchObject({ workingSetBytes: 0n });
    expect(stats?.memory).not.toHaveProperty("availableBytes");
    expect(stats).not.toHaveProperty("swap");
  });

  test("with a swap limit of 0, no swap is available", async () => {
    const none = { "p/memory.swap.current": "0\n", "p/memory.swap.max": "0\n" };
    await files({ "p/memory.current": "100\n", "p/memory.max": "1000\n", ...none });
    const [stats] = await reader({}).read("containers", ["/p"]);
    expect(stats?.swap).toEqual({ timestamp: now, usageBytes: 0n, availableBytes: 0n });
  });

  test("with a swap limit, what is left of it is available", async () => {
    const half = { "p/memory.swap.current": "50\n", "p/memory.swap.max": "80\n" };
    await files({ "p/memory.current": "100\n", "p/memory.max": "1000\n", ...half });
    const [stats] = await reader({}).read("containers", ["/p"]);
    expect(stats?.swap).toEqual({ timestamp: now, usageBytes: 50n, availableBytes: 30n });
  });

  test("more cgroups than one thread reads are returned in order", async () => {
    const names = Array.from({ length: 60 }, (_, index) => `${index}`);
    await files(Object.fromEntries(names.map((name) => [`${name}/memory.current`, `${name}\n`])));
    const stats = await reader({}).read(
      "pods",
      names.map((name) => `/${name}`),
    );
    expect(stats.map((one) => one?.memory.usageBytes)).toEqual(names.map(BigInt));
  });

  test("a cgroup that no longer exists has no stats, and does not affect the others", async () => {
    await files({ "a/memory.current": "1\n", "c/memory.current": "3\n" });
    const stats = await reader({}).read("containers", ["/a", "/b", "/c"]);
    expect(stats.map((one) => one?.memory.usageBytes)).toEqual([1n, undefined, 3n]);
  });
});

test("cgroup v1: each file from its controller's hierarchy; swap is memsw minus memory", async () => {
  await files({
    "cpuacct/p/cpuacct.usage": "5000\n",
    "memory/p/memory.usage_in_bytes": "1000\n",
    "memory/p/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/p/memory.stat": "rss 1\ntotal_rss 300\ntotal_inactive_file 400\ntotal_pgfault 9\ntotal_pgmajfault 2\n",
    "memory/p/memory.memsw.usage_in_bytes": "1200\n",
    "memory/p/memory.memsw.limit_in_bytes": "2000\n",
    "pids/p/pids.current": "4\n",
  });
  const v1 = new Map(["cpuacct", "memory", "pids"].map((controller) => [controller, join(root, controller)]));
  const both = {
    cpu: { timestamp: now, usageCoreNanoSeconds: 5000n },
    memory: {
      timestamp: now,
      usageBytes: 1000n,
      workingSetBytes: 600n,
      rssBytes: 300n,
      pageFaults: 9n,
      majorPageFaults: 2n,
    },
  };
  const from = reader({ unified: false, v1 });
  expect(await from.read("containers", ["/p"])).toEqual([
    { ...both, swap: { timestamp: now, usageBytes: 200n, availableBytes: 800n } },
  ]);
  expect(await from.read("pods", ["/p"])).toEqual([{ ...both, processCount: 4n }]);
});

test.each([
  ["3000", { availableBytes: 0n }],
  ["3500", { availableBytes: 300n }],
  ["9223372036854771712", {}],
] as const)("cgroup v1: memory is limited to 3000, and memory plus swap to %s", async (limit, available) => {
  await files({
    "p/memory.usage_in_bytes": "1000\n",
    "p/memory.limit_in_bytes": "3000\n",
    "p/memory.stat": "total_inactive_file 400\n",
    "p/memory.memsw.usage_in_bytes": "1200\n",
    "p/memory.memsw.limit_in_bytes": `${limit}\n`,
  });
  const [stats] = await reader({ unified: false, v1: new Map([["memory", root]]) }).read("containers", ["/p"]);
  expect(stats?.swap).toEqual({ timestamp: now, usageBytes: 200n, ...available });
  expect(stats?.memory).toMatchObject({ workingSetBytes: 600n, availableBytes: 2400n });
});

test("on a hybrid host, pressure is read from v2; without a v2 hierarchy there is none", async () => {
  await files({
    "memory/p/memory.usage_in_bytes": "1000\n",
    "unified/p/cpu.pressure": pressureText,
    "unified/p/memory.pressure": pressureText,
    "unified/p/io.pressure": pressureText,
  });
  const v1 = new Map([["memory", join(root, "memory")]]);
  for (const of of ["containers", "pods"] as const) {
    const [hybrid] = await reader({ unified: false, v1, v2: join(root, "unified") }).read(of, ["/p"]);
    expect(hybrid).toMatchObject({ cpu: { pressure }, memory: { usageBytes: 1000n, pressure }, ioPressure: pressure });
    const [alone] = await reader({ unified: false, v1, v2: "" }).read(of, ["/p"]);
    expect(alone?.memory.usageBytes).toBe(1000n);
    for (const part of [alone?.cpu, alone?.memory]) expect(part).not.toHaveProperty("pressure");
    expect(alone).not.toHaveProperty("ioPressure");
  }
});

test("the files of a cgroup stay open until it is forgotten: they would keep a removed one in the kernel", async () => {
  const open = () =>
    readdirSync("/proc/self/fd").filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(root);
      } catch {
        return false;
      }
    });
  await files({ "p/memory.current": "1\n" });
  const from = reader({});
  await from.read("containers", ["/p"]);
  expect(open()).toHaveLength(1);
  from.forget("/p");
  await expect.poll(open).toEqual([]);
});

describe("the CPU rate", () => {
  async function sample(from: CgroupReader, usageUsec: number): Promise<bigint | undefined> {
    await files({ "p/memory.current": "1\n", "p/cpu.stat": `usage_usec ${usageUsec}\n` });
    return (await from.read("containers", ["/p"]))[0]?.cpu.usageNanoCores;
  }

  test("needs two samples, and is used time divided by elapsed time", async () => {
    const from = reader({});
    expect(await sample(from, 0)).toBeUndefined();
    now += 2n * second;
    expect(await sample(from, 500_000), "half a second in two").toBe(250_000_000n);
  });

  test("is kept while samples are too close together, and then calculated from the older one", async () => {
    const from = reader({});
    await sample(from, 0);
    now += second;
    expect(await sample(from, 1_000_000)).toBe(second);
    now += second / 2n;
    expect(await sample(from, 1_000_000)).toBe(second);
    now += second;
    expect(await sample(from, 1_000_000)).toBe(0n);
  });

  test("starts over when the clock was set back", async () => {
    const from = reader({});
    await sample(from, 0);
    now += second;
    expect(await sample(from, 1_000_000)).toBe(second);
    now -= 3600n * second;
    expect(await sample(from, 1_000_000)).toBeUndefined();
    now += second;
    expect(await sample(from, 1_500_000)).toBe(second / 2n);
  });

  test("of a recreated cgroup is not negative, and starts over once the old one is forgotten", async () => {
    const from = reader({});
    await sample(from, 1_000_000);
    now += second;
    expect(await sample(from, 10)).toBe(0n);
    from.forget("/p");
    now += second;
    expect(await sample(from, 20)).toBeUndefined();
  });
});

describe("of pods and containers", () => {
  async function cgroup(path: string): Promise<void> {
    const directory = join(node().directory, "cgroup", path);
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, "memory.current"), "1000\n");
    await writeFile(join(directory, "memory.swap.current"), "300\n");
    await writeFile(join(directory, "io.pressure"), pressureText);
    await writeFile(join(directory, "pids.current"), "2\n");
  }

  test("a container has stats while it is running, and its writable layer also afterwards", async () => {
    const pods = await node().start();
    const sandbox = await runPod(pods);
    const c = await runContainer(pods, sandbox);
    await cgroup(`keelson/${sandbox}/${c}`);
    expect(await pods.containerStats(c)).toMatchObject({
      container: { id: c },
      memory: { usageBytes: 1000n },
      swap: { usageBytes: 300n },
      ioPressure: pressure,
      writableLayer: { usedBytes: 4096n },
    });
    node().monitor(sandbox).forgets(c);
    await pods.stopContainer(c, 0n, new AbortController().signal);
    const after = await pods.containerStats(c);
    expect(after).toMatchObject({ writableLayer: { usedBytes: 4096n } });
    expect(after).not.toHaveProperty("memory");
    expect(await pods.listContainerStats({ labels: new Map() })).toEqual([]);
    await rm(join(node().directory, "cgroup/keelson"), { recursive: true });
  });

  test("a pod has its own stats and its containers'; one that is not ready is not listed", async () => {
    const pods = await node().start();
    const [a, b, stopped] = [await runPod(pods, "a"), await runPod(pods, "b"), await runPod(pods, "stopped")];
    const inside = new Map([a, b].map((pod) => [pod, runContainer(pods, pod)]));
    for (const [pod, container] of inside) {
      await cgroup(`keelson/${pod}`);
      await cgroup(`keelson/${pod}/${await container}`);
    }
    await pods.stopSandbox(stopped, new AbortController().signal);
    const listed = await pods.listSandboxStats({ labels: new Map() });
    expect(listed.map(({ sandbox }) => sandbox.id).toSorted()).toEqual([a, b].toSorted());
    for (const stats of listed) {
      expect(stats).toMatchObject({ memory: { usageBytes: 1000n }, ioPressure: pressure, processCount: 2n });
      const id = await inside.get(stats.sandbox.id);
      expect(stats.containers).toMatchObject([{ container: { id }, memory: { usageBytes: 1000n } }]);
    }
    await rm(join(node().directory, "cgroup/keelson"), { recursive: true });
  });
});
