// UpdateContainerResources: bundle, cgroup and record change together or not at all.

import { spawn } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { limits } from "./environment.ts";
import type { NodePods } from "./pods.ts";
import { holdTime, pass, until } from "./testing/clock.ts";
import { containerConfig, noResources } from "./testing/configs.ts";
import { never, runPod, useNode } from "./testing/node.ts";
import { refusal } from "./testing/scripted-monitor.ts";
import type { ContainerId, Resources, SandboxId } from "./types.ts";

const node = useNode();
holdTime();

const mebi = 1n << 20n;
const before: Resources = {
  ...noResources,
  cpuQuota: 50_000n,
  cpuPeriod: 100_000n,
  memoryLimit: 64n * mebi,
  cpusetCpus: "0",
};

let pods: NodePods;
let sandbox: SandboxId;
let id: ContainerId;
beforeEach(async () => {
  pods = await node().start();
  sandbox = await runPod(pods);
  id = await pods.createContainer(
    sandbox,
    { ...containerConfig("c", "img", ["/bin/sleep"]), resources: before },
    never,
  );
});

async function bundleResources() {
  const path = join(node().podDirectory(sandbox), "containers", id, "config.json");
  return JSON.parse(await readFile(path, "utf8")).linux.resources;
}

test("for a created container, bundle and record change, and no cgroup", async () => {
  const { devices } = await bundleResources();
  expect(devices).toContainEqual({ allow: false, access: "rwm" });
  await pods.updateContainerResources(id, { ...noResources, memoryLimit: 128n * mebi }, never);
  expect((await bundleResources()).devices).toEqual(devices);
  expect(await bundleResources()).toMatchObject({ memory: { limit: 134_217_728 }, cpu: { quota: 50_000, cpus: "0" } });
  expect(pods.container(id).resources).toEqual({ ...before, memoryLimit: 128n * mebi });
  expect(await node().record(id)).toMatchObject({ resources: { memoryLimit: 128n * mebi, cpuQuota: 50_000n } });
  expect(node().script.calls()).not.toContain("monitor update");
});

test("a swap limit equal to the memory limit follows it even where swap is not counted, as in a stopped pod", async () => {
  const resources = { ...noResources, memoryLimit: 64n * mebi, memorySwapLimit: 64n * mebi };
  const config = { ...containerConfig("limited", "img", ["/bin/sleep"]), resources };
  const limited = await pods.createContainer(sandbox, config, never);
  await pods.stopSandbox(sandbox, never);
  await pods.updateContainerResources(limited, { ...noResources, memoryLimit: 128n * mebi }, never);
  expect(pods.container(limited).resources).toMatchObject({ memoryLimit: 128n * mebi, memorySwapLimit: 128n * mebi });
});

test("for a running container, the cgroup gets the changed values, and the rest stays", async () => {
  await pods.startContainer(id, never);
  await pods.updateContainerResources(id, { ...noResources, cpuQuota: 20_000n }, never);
  expect(node().monitor(sandbox).updates).toMatchObject([{ cpu: { quota: 20_000 } }]);
  expect(pods.container(id).resources).toEqual({ ...before, cpuQuota: 20_000n });
});

test("if the cgroup update fails: bundle, record and status stay unchanged", async () => {
  await pods.startContainer(id, never);
  const old = await bundleResources();
  node().script.fail("monitor update", refusal("system", "write cpu.max: EINVAL"));
  const update = pods.updateContainerResources(
    id,
    { ...noResources, cpuQuota: 20_000n, memoryLimit: 128n * mebi },
    never,
  );
  await expect(update).rejects.toMatchObject({ name: "updateFailed", message: expect.stringContaining("EINVAL") });
  expect(await bundleResources()).toEqual(old);
  expect(pods.container(id).resources).toEqual(before);
  expect(await node().record(id)).toMatchObject({ resources: { cpuQuota: 50_000n } });
  // Some values may have been applied, so the old ones are restored.
  expect(node().monitor(sandbox).updates).toMatchObject([{ cpu: { quota: 50_000 }, memory: { limit: 67_108_864 } }]);
});

test("a monitor that does not answer an update: the error says so with its own code", async () => {
  await pods.startContainer(id, never);
  node().monitor(sandbox).freezes();
  const update = pods.updateContainerResources(id, { ...noResources, cpuQuota: 20_000n }, never);
  const late = expect(update).rejects.toMatchObject({ code: "DeadlineExceeded" });
  for (const times of [1, 2]) {
    await until("it is asked", () => node().script.count("monitor update") === times);
    await pass(limits.call);
  }
  await late;
});

test("the OOM score is set for the processes in the cgroup; one that has exited meanwhile is no problem", async () => {
  await pods.startContainer(id, never);
  const cgroup = join(node().directory, "cgroup/keelson", sandbox, id);
  await mkdir(cgroup, { recursive: true });
  const program = spawn("sleep", ["1000"]);
  try {
    await writeFile(join(cgroup, "cgroup.procs"), `${program.pid}\n${2 ** 30}\n`);
    await pods.updateContainerResources(id, { ...noResources, oomScoreAdj: 321n }, never);
    expect(await readFile(`/proc/${program.pid}/oom_score_adj`, "utf8")).toBe("321\n");
    expect(node().log).toEqual([]);
  } finally {
    program.kill("SIGKILL");
    await rm(join(node().directory, "cgroup/keelson"), { recursive: true });
  }
});

test("if the record cannot be written: the cgroup's old values are restored", async () => {
  await pods.startContainer(id, never);
  await rm(node().stateDirectory, { recursive: true });
  await writeFile(node().stateDirectory, "");
  await expect(pods.updateContainerResources(id, { ...noResources, cpuQuota: 20_000n }, never)).rejects.toThrow(
    "ENOTDIR",
  );
  expect(node().monitor(sandbox).updates).toMatchObject([{ cpu: { quota: 20_000 } }, { cpu: { quota: 50_000 } }]);
  expect(pods.container(id).resources).toEqual(before);
});

test.each([
  [2n, 0n, 2],
  [0n, 512n, 1024],
])(
  "if the record cannot be written: previously unlimited resources are unlimited again (shares %i, updated to %i: %i)",
  async (had, wanted, restored) => {
    const config = { ...containerConfig("free", "img", ["/bin/sleep"]), resources: { ...noResources, cpuShares: had } };
    const free = await pods.createContainer(sandbox, config, never);
    await pods.startContainer(free, never);
    await rm(node().stateDirectory, { recursive: true });
    await writeFile(node().stateDirectory, "");
    const change = { ...noResources, cpuShares: wanted, cpuQuota: 50_000n, memoryLimit: 64n * mebi };
    await expect(pods.updateContainerResources(free, change, never)).rejects.toThrow("ENOTDIR");
    expect(node().monitor(sandbox).updates).toMatchObject([
      { cpu: { quota: 50_000 }, memory: { limit: 67_108_864 } },
      { cpu: { shares: restored, quota: -1 }, memory: { limit: -1 } },
    ]);
  },
);

test("a memory limit without a swap limit means no swap, where the kernel counts swap", async () => {
  await pods.startContainer(id, never);
  const cgroup = join(node().directory, "cgroup/keelson", sandbox);
  await mkdir(cgroup, { recursive: true });
  await writeFile(join(cgroup, "memory.swap.max"), "max\n");
  await pods.updateContainerResources(id, { ...noResources, memoryLimit: 128n * mebi }, never);
  expect(node().monitor(sandbox).updates).toMatchObject([{ memory: { limit: 134_217_728, swap: 134_217_728 } }]);
  await rm(join(node().directory, "cgroup/keelson"), { recursive: true });
});

test("an OOM score below what this process may set becomes the lowest that it may", async () => {
  node().lowestOomScore = -500;
  pods = await node().restart();
  await pods.updateContainerResources(id, { ...noResources, oomScoreAdj: -997n }, never);
  const bundle = join(node().podDirectory(sandbox), "containers", id, "config.json");
  expect(JSON.parse(await readFile(bundle, "utf8")).process.oomScoreAdj).toBe(-500);
});

test("huge page and unified limits replace those of the same name, and the others stay", async () => {
  const limits = (two: bigint, high: string): Resources => ({
    ...noResources,
    hugepageLimits: [{ pageSize: "2MB", limit: two }],
    unified: new Map([["memory.high", high]]),
  });
  const first = limits(1n, "1");
  const more = { ...first, hugepageLimits: [...first.hugepageLimits, { pageSize: "1GB", limit: 9n }] };
  await pods.updateContainerResources(id, { ...more, unified: new Map([...first.unified, ["pids.max", "9"]]) }, never);
  await pods.updateContainerResources(id, limits(2n, "2"), never);
  expect(await bundleResources()).toMatchObject({
    hugepageLimits: [
      { pageSize: "1GB", limit: 9 },
      { pageSize: "2MB", limit: 2 },
    ],
    unified: { "memory.high": "2", "pids.max": "9" },
    cpu: { cpus: "0" },
  });
});

test("a limit below the usage is refused, and one above is not", async () => {
  await pods.startContainer(id, never);
  const cgroup = join(node().directory, "cgroup/keelson", sandbox, id);
  await mkdir(cgroup, { recursive: true });
  await writeFile(join(cgroup, "memory.current"), `${40n * mebi}\n`);
  await writeFile(join(cgroup, "memory.stat"), `inactive_file ${10n * mebi}\n`);
  const to = (limit: bigint) => pods.updateContainerResources(id, { ...noResources, memoryLimit: limit * mebi }, never);
  await expect(to(29n)).rejects.toMatchObject({ name: "memoryBelowUse" });
  expect(node().monitor(sandbox).updates).toEqual([]);
  await to(30n);
  expect(pods.container(id).resources?.memoryLimit).toBe(30n * mebi);
  await rm(join(node().directory, "cgroup/keelson"), { recursive: true });
});

test("a swap limit below memory is refused, and so is an exited container", async () => {
  const swap = pods.updateContainerResources(id, { ...noResources, memorySwapLimit: 32n * mebi }, never);
  await expect(swap).rejects.toMatchObject({ name: "swapBelowMemory" });
  await pods.startContainer(id, never);
  await pods.stopContainer(id, 0n, never);
  await expect(pods.updateContainerResources(id, before, never)).rejects.toMatchObject({ name: "containerState" });
});

test("for a pod, the change is recorded and shown", async () => {
  await pods.updateSandboxResources(sandbox, { resources: { ...noResources, cpuShares: 512n } }, never);
  expect(await node().record(sandbox)).toMatchObject({ resources: { resources: { cpuShares: 512n } } });
  expect(await pods.sandboxInfo(sandbox)).toMatchObject({ resources: { cpuShares: 512n } });
  const again = await node().restart();
  expect(await again.sandboxInfo(sandbox)).toMatchObject({ resources: { cpuShares: 512n } });
});
