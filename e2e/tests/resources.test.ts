// UpdateContainerResources, stats and metrics, on a real container's cgroup.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import Long from "long";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { lacks, ociHandlers } from "../fixtures/oci-runtimes.ts";
import { until } from "../fixtures/steps.ts";

const handlers = await ociHandlers();
let node: TestNode;
let podSandboxId: string;
let containerId: string;
const MiB = 1 << 20;

beforeAll(async () => {
  node = await startNode({ handlers });
  const pod = node.podConfig("limits");
  podSandboxId = (await node.client.runPodSandbox({ config: pod })).podSandboxId;
  // Uses 24 MiB of memory, so that a lower limit can be refused.
  const script = "x=$(head -c 25165824 /dev/zero | tr '\\0' x); trap 'exit 0' TERM; echo ready; sleep 600 & wait";
  containerId = await node.runContainer(pod, podSandboxId, "c", script);
  await until("it has allocated its memory", 60_000, async () => {
    const log = await readFile(join(node.logs, "c.log"), "utf8").catch(() => "");
    return log.includes("ready") ? true : undefined;
  });
});
afterAll(() => node.close());

/** The memory limit as seen by the container, on either cgroup version. */
async function limit(): Promise<number> {
  const files = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max";
  const { stdout } = await node.client.execSync({ containerId, cmd: ["sh", "-c", `cat ${files} 2>/dev/null`] });
  return Number(Buffer.from(stdout).toString().trim());
}

async function resources() {
  return (await node.client.containerStatus({ containerId })).status?.resources?.linux;
}

test("a running container gets new limits, and its status reports them", async () => {
  const linux = {
    memoryLimitInBytes: Long.fromNumber(128 * MiB),
    cpuShares: Long.fromNumber(512),
    cpuQuota: Long.fromNumber(50_000),
    cpuPeriod: Long.fromNumber(100_000),
  };
  await node.client.updateContainerResources({ containerId, linux });
  expect(await limit()).toBe(128 * MiB);
  expect(await resources()).toMatchObject(linux);
});

test("if the kernel refuses to lower the OOM score, it is logged only once per container", async () => {
  // proc(5): CAP_SYS_RESOURCE is number 24.
  const [, capabilities = "0"] = /^CapEff:\s*(\w+)$/m.exec(await readFile("/proc/self/status", "utf8")) ?? [];
  const refuses = ((BigInt(`0x${capabilities}`) >> 24n) & 1n) === 0n;
  for (const score of [-500, -400, -300])
    await node.client.updateContainerResources({ containerId, linux: { oomScoreAdj: Long.fromNumber(score) } });
  const warnings = (await readFile(node.daemon.logFile, "utf8"))
    .split("\n")
    .filter((line) => line.includes("OOM score") && line.includes(containerId));
  expect(warnings).toHaveLength(refuses ? 1 : 0);
});

test("limits that an update does not set stay unchanged", async () => {
  await node.client.updateContainerResources({ containerId, linux: { cpuShares: Long.fromNumber(256) } });
  expect(await limit()).toBe(128 * MiB);
  expect(await resources()).toMatchObject({
    cpuShares: Long.fromNumber(256),
    memoryLimitInBytes: Long.fromNumber(128 * MiB),
  });
});

test("a limit below the usage, and an update that the host can apply only in part, are refused and change nothing", async () => {
  await expect(
    node.client.updateContainerResources({ containerId, linux: { memoryLimitInBytes: Long.fromNumber(4 * MiB) } }),
  ).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
  const half = { memoryLimitInBytes: Long.fromNumber(256 * MiB), cpusetCpus: "4000" };
  await expect(node.client.updateContainerResources({ containerId, linux: half })).rejects.toThrow(containerId);
  expect(await limit()).toBe(128 * MiB);
  expect(await resources()).toMatchObject({ memoryLimitInBytes: Long.fromNumber(128 * MiB), cpusetCpus: "" });
});

test.for(["native", "runc", "crun"])(
  "%s: the largest possible numbers mean no limit, at the start and in an update",
  async (runtimeHandler, { skip }) => {
    skip(lacks(handlers, runtimeHandler));
    const pod = node.podConfig(`most-${runtimeHandler}`);
    const sandbox = await node.client.runPodSandbox({ config: pod, runtimeHandler });
    const most = { memoryLimitInBytes: Long.MAX_VALUE, memorySwapLimitInBytes: Long.MAX_VALUE };
    const created = await node.client.createContainer({
      podSandboxId: sandbox.podSandboxId,
      sandboxConfig: pod,
      config: {
        metadata: { name: "most", attempt: 0 },
        image: { image: node.image },
        command: ["sleep", "1000"],
        linux: { resources: { ...most, hugepageLimits: [{ pageSize: "2MB", limit: Long.MAX_UNSIGNED_VALUE }] } },
      },
    });
    await node.client.startContainer(created);
    const read = async (...files: string[]) => {
      const answer = await node.client.execSync({
        containerId: created.containerId,
        cmd: ["sh", "-c", `cd /sys/fs/cgroup; cat ${files.join(" ")} 2>/dev/null; true`],
      });
      return Buffer.from(answer.stdout).toString().trim();
    };
    const unlimited = /^(max|922337203685\d{7})?$/;
    const memory = () => read("memory/memory.limit_in_bytes", "memory.max");
    expect(await memory()).toMatch(unlimited);
    expect(await read("hugetlb/hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max")).toMatch(unlimited);
    const { containerId } = created;
    await node.client.updateContainerResources({
      containerId,
      linux: { memoryLimitInBytes: Long.fromNumber(64 * MiB) },
    });
    expect(await memory()).toBe(String(64 * MiB));
    await node.client.updateContainerResources({ containerId, linux: most });
    expect(await memory()).toMatch(unlimited);
    await node.client.removePodSandbox(sandbox);
  },
);

test("a created container starts with its updated limits", async () => {
  const config = {
    metadata: { name: "later", attempt: 0 },
    image: { image: node.image },
    command: [
      "sh",
      "-c",
      "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true",
    ],
    logPath: "later.log",
    linux: {},
  };
  const created = await node.client.createContainer({ podSandboxId, sandboxConfig: node.podConfig("limits"), config });
  await node.client.updateContainerResources({
    containerId: created.containerId,
    linux: { memoryLimitInBytes: Long.fromNumber(64 * MiB) },
  });
  await node.client.startContainer({ containerId: created.containerId });
  const log = await until("the limit is in the log", 10_000, async () => {
    const text = await readFile(join(node.logs, "later.log"), "utf8").catch(() => "");
    return text.includes("stdout F") ? text : undefined;
  });
  expect(log).toContain(`stdout F ${64 * MiB}\n`);
});

test("a start that runs out of memory says so", async () => {
  const created = await node.client.createContainer({
    podSandboxId,
    sandboxConfig: node.podConfig("limits"),
    config: {
      metadata: { name: "tight", attempt: 0 },
      image: { image: node.image },
      command: ["sleep", "600"],
      linux: { resources: { memoryLimitInBytes: Long.fromNumber(64 << 10) } },
    },
  });
  await expect(node.client.startContainer(created)).rejects.toMatchObject({
    code: status.RESOURCE_EXHAUSTED,
    details: expect.stringMatching(
      /start the process: the kernel killed it for lack of memory.* Raise the memory limit/,
    ),
  });
  await node.client.removeContainer(created);
});

test("a memory limit without a swap limit means no swap, after updates too; a requested swap limit is kept", async ({
  skip,
}) => {
  const pod = node.podConfig("limits");
  const run = async (name: string, resources: object) => {
    const image = { image: node.image };
    const config = { metadata: { name, attempt: 0 }, image, command: ["sleep", "600"], linux: { resources } };
    const created = await node.client.createContainer({ podSandboxId, sandboxConfig: pod, config });
    await node.client.startContainer(created);
    return created.containerId;
  };
  const update = (containerId: string, mebis: number) =>
    node.client.updateContainerResources({ containerId, linux: { memoryLimitInBytes: Long.fromNumber(mebis * MiB) } });
  /** The swap limit in addition to memory, on either cgroup version. */
  const swap = async (containerId: string) => {
    const v1 = (file: string) => `/sys/fs/cgroup/memory/memory.${file}limit_in_bytes`;
    const script = `cat /sys/fs/cgroup/memory.swap.max 2>/dev/null || { cat ${v1("memsw.")} 2>/dev/null && cat ${v1("")}; }`;
    const { stdout } = await node.client.execSync({ containerId, cmd: ["sh", "-c", script] });
    const [sum, memory = 0] = (Buffer.from(stdout).toString().match(/\d+/g) ?? []).map(Number);
    return sum === undefined ? undefined : sum - memory;
  };
  const plain = await run("plain", { memoryLimitInBytes: Long.fromNumber(64 * MiB) });
  skip((await swap(plain)) === undefined, "this kernel does not count swap");
  expect(await swap(plain)).toBe(0);
  for (const mebis of [128, 32]) {
    await update(plain, mebis);
    expect(await swap(plain)).toBe(0);
  }
  const { status } = await node.client.containerStatus({ containerId: plain });
  expect(status?.resources?.linux?.memorySwapLimitInBytes).toEqual(Long.fromNumber(32 * MiB));
  const free = await run("free", {});
  await update(free, 64);
  expect(await swap(free)).toBe(0);
  const memory = { memoryLimitInBytes: Long.fromNumber(64 * MiB), memorySwapLimitInBytes: Long.fromNumber(96 * MiB) };
  const swapping = await run("swapping", memory);
  await update(swapping, 80);
  expect(await swap(swapping)).toBeGreaterThan(0);
});

test("limits survive a restart of the daemon", async () => {
  const before = await resources();
  await node.daemon.kill();
  await node.daemon.start();
  expect(await resources()).toEqual(before);
});

test("metrics: every value has a descriptor with the same number of labels, and is correct", async () => {
  const { descriptors } = await node.client.listMetricDescriptors({});
  const known = new Map(descriptors.map(({ name, labelKeys }) => [name, labelKeys ?? []]));
  expect(known.size).toBe(descriptors.length);
  const { podMetrics } = await node.client.listPodSandboxMetrics({});
  const pod = podMetrics.find((one) => one.podSandboxId === podSandboxId);
  const own = pod?.containerMetrics?.find((one) => one.containerId === containerId)?.metrics ?? [];
  for (const { name, labelValues } of [...own, ...(pod?.metrics ?? [])]) {
    expect(labelValues?.length, name ?? "").toBe(known.get(name ?? "")?.length);
  }
  const value = (wanted: string) => Number(own.find(({ name }) => name === wanted)?.value?.value);
  expect(value("container_spec_memory_limit_bytes")).toBe(128 * MiB);
  expect(value("container_memory_usage_bytes")).toBeGreaterThan(24 * MiB);
  expect(value("container_memory_max_usage_bytes")).toBeGreaterThanOrEqual(value("container_memory_usage_bytes"));
  const files = ["active", "inactive"].map((kind) => value(`container_memory_total_${kind}_file_bytes`));
  expect(Math.min(...files)).toBeGreaterThanOrEqual(0);
  expect(value("container_file_descriptors")).toBeGreaterThan(2);
  expect(value("container_processes")).toBeGreaterThan(0);
  expect(value("container_threads")).toBeGreaterThanOrEqual(value("container_processes"));
  expect(value("container_fs_inodes_free")).toBeLessThan(value("container_fs_inodes_total"));
  expect(value("container_oom_events_total")).toBe(0);
  expect(value("container_start_time_seconds")).toBeLessThanOrEqual(Date.now() / 1000);
  const sent = pod?.metrics?.filter(({ name }) => name === "container_network_transmit_bytes_total") ?? [];
  expect(sent.map(({ labelValues }) => labelValues?.at(-1))).toEqual(["eth0"]);
  expect(Number(sent[0]?.value?.value)).toBeGreaterThan(0);
});

test("a pod's stats: eth0 is the default interface, and loopback is the other one", async () => {
  const { stats } = await node.client.listPodSandboxStats({ filter: { id: podSandboxId } });
  const { defaultInterface, interfaces } = stats[0]?.linux?.network ?? {};
  expect(defaultInterface?.name).toBe("eth0");
  expect(interfaces?.map(({ name }) => name)).toEqual(["lo"]);
});

test("a pod's network has counters while none of its containers is running", async () => {
  await node.client.stopContainer({ containerId });
  const { stats } = await node.client.listPodSandboxStats({ filter: { id: podSandboxId } });
  const { defaultInterface } = stats[0]?.linux?.network ?? {};
  expect(defaultInterface?.name).toBe("eth0");
  expect(Number(defaultInterface?.txBytes?.value)).toBeGreaterThan(0);
});

test("a pod that deleted its own interface has no network stats, because kubelets crash without a default interface", async () => {
  const pod = node.podConfig("cut-off");
  const { podSandboxId: id } = await node.client.runPodSandbox({ config: pod });
  const { containerId: cut } = await node.client.createContainer({
    podSandboxId: id,
    config: {
      metadata: { name: "c", attempt: 0 },
      image: { image: node.image },
      command: ["sh", "-c", "ip link del eth0 && sleep 600"],
      linux: { securityContext: { capabilities: { addCapabilities: ["NET_ADMIN"] } } },
    },
    sandboxConfig: pod,
  });
  await node.client.startContainer({ containerId: cut });
  await until("eth0 is deleted", 10_000, async () => {
    const { stdout } = await node.client.execSync({ containerId: cut, cmd: ["cat", "/proc/net/dev"] });
    return Buffer.from(stdout).includes("eth0:") ? undefined : true;
  });
  const networks = async () => {
    const { stats } = await node.client.listPodSandboxStats({ filter: { id } });
    return stats.map(({ linux }) => linux?.network ?? null);
  };
  expect(await networks()).toEqual([null]);
  await node.client.stopContainer({ containerId: cut });
  expect(await networks()).toEqual([null]);
});
