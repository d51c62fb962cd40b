// Slow networks, clients with short deadlines, frozen and killed monitors: a fault in one pod does not affect others.

import { execFileSync } from "node:child_process";
import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { dead, full } from "../fixtures/hindrances.ts";
import { placesOf } from "../fixtures/host-view.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { until } from "../fixtures/steps.ts";
import { startWildNode } from "../fixtures/wild-plugin.ts";

let node: TestNode;
afterEach(() => node.close());

/** A plugin at the end of the chain that takes `seconds` for an ADD and logs each one; returns its log. */
async function startSlowNode(seconds: number): Promise<string> {
  node = await startNode({ pluginDirectories: (directory) => [join(directory, "plugins"), "/usr/lib/cni"] });
  const { directory, logs } = node;
  const notes = join(logs, "adds");
  await mkdir(join(directory, "plugins"));
  const script = `#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\necho $CNI_CONTAINERID >>${notes}\nsleep ${seconds}\nsed 's/.*"prevResult"://; s/}$//' >/dev/null\necho '{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.3/24"}]}'\n`;
  await writeFile(join(directory, "plugins", "slow"), script, { mode: 0o755 });
  await node.changePlugins((plugins) => {
    plugins.push({ type: "slow" });
  });
  return notes;
}

test("the retry joins a start that outlives its client: one pod, one ADD, no reserved name", async () => {
  const notes = await startSlowNode(2);
  const config = node.podConfig("slow");
  await expect(node.client.runPodSandbox({ config }, 500)).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
  const [first, second] = await Promise.all([
    node.client.runPodSandbox({ config }),
    node.client.runPodSandbox({ config }),
  ]);
  expect(second.podSandboxId).toBe(first.podSandboxId);
  const { items } = await node.client.listPodSandbox({});
  expect(items.map(({ id }) => id)).toEqual([first.podSandboxId]);
  expect((await readFile(notes, "utf8")).trim().split("\n")).toEqual([first.podSandboxId]);
});

test("a pod that starts slowly delays no other pod, and no list", async () => {
  await startSlowNode(3);
  const slow = node.client.runPodSandbox({ config: node.podConfig("slow") });
  const host = { ...node.podConfig("host"), linux: { securityContext: { namespaceOptions: { network: 2 } } } };
  const begin = performance.now();
  const { podSandboxId } = await node.client.runPodSandbox({ config: host });
  await node.runContainer(host, podSandboxId, "c", "sleep 600");
  await node.client.listContainers({});
  expect(performance.now() - begin).toBeLessThan(2000);
  await slow;
});

test("a frozen monitor affects its own pod only", async () => {
  node = await startNode();
  const pods = await Promise.all(
    ["a", "b", "c"].map(async (name) => {
      const config = node.podConfig(name);
      const { podSandboxId } = await node.client.runPodSandbox({ config });
      return { config, podSandboxId, containerId: await node.runContainer(config, podSandboxId, "c", "sleep 600") };
    }),
  );
  const [frozen, ...others] = pods;
  if (frozen === undefined) throw new Error("no pods");
  const pid = await monitorPid(frozen.podSandboxId);
  process.kill(pid, "SIGSTOP");
  try {
    const begin = performance.now();
    expect((await node.client.listPodSandbox({})).items).toHaveLength(3);
    const { stats } = await node.client.listContainerStats({});
    expect(stats.map((one) => Number(one.cpu?.usageCoreNanoSeconds?.value) > 0)).toEqual([true, true, true]);
    for (const { containerId } of others) {
      expect((await node.client.execSync({ containerId, cmd: ["true"] })).exitCode).toBe(0);
    }
    expect(performance.now() - begin).toBeLessThan(2000);
    await expect(node.client.execSync({ containerId: frozen.containerId, cmd: ["true"] }, 1500)).rejects.toThrow();
  } finally {
    process.kill(pid, "SIGCONT");
  }
  expect((await node.client.execSync({ containerId: frozen.containerId, cmd: ["true"] })).exitCode).toBe(0);
});

test("a killed monitor ends its pod, which is reported as not ready and can be removed completely", async () => {
  node = await startNode();
  const config = node.podConfig("doomed");
  const { podSandboxId } = await node.client.runPodSandbox({ config });
  const containerId = await node.runContainer(config, podSandboxId, "c", "sleep 600");
  process.kill(await monitorPid(podSandboxId), "SIGKILL");
  const told = await until("the pod is not ready", 10_000, async () => {
    const answer = await node.client.podSandboxStatus({ podSandboxId });
    return answer.status?.state === 1 ? answer : undefined;
  });
  expect(told.containersStatuses).toMatchObject([{ id: containerId, state: 2, exitCode: 255 }]);
  await node.client.removePodSandbox({ podSandboxId });
  await node.daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test("a pod whose last record cannot be written is not returned to a retry, and is rolled back", async () => {
  const wild = await startWildNode();
  node = wild.node;
  const { plugins } = wild;
  await plugins.be({ type: "portmap", command: "ADD", failPercent: 0, hangPercent: 100 });
  const config = node.podConfig("unrecorded");
  const first = node.client.runPodSandbox({ config }).catch((error: unknown) => String(error));
  const { records } = placesOf(node.directory);
  // The first record is written, the plugins are running.
  await expect.poll(async () => (await readdir(records)).filter((name) => name.endsWith(".json"))).toHaveLength(1);
  await delay(1000);
  const lift = await dead(records);
  try {
    await plugins.be("calm");
    // Long enough, even on a busy machine, for the plugin to finish and the last write to begin.
    await delay(4000);
    await expect(node.client.runPodSandbox({ config }, 1000)).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
  } finally {
    await lift();
  }
  expect(await first).toContain("ENOTCONN");
  await node.removePods();
  expect((await node.client.listPodSandbox({})).items).toEqual([]);
  const { podSandboxId } = await node.client.runPodSandbox({ config });
  await node.client.removePodSandbox({ podSandboxId });
  await node.daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test("a seccomp profile that is a FIFO is refused, and blocks neither its pod nor its removal", async () => {
  node = await startNode();
  const config = node.podConfig("fifo");
  const { podSandboxId } = await node.client.runPodSandbox({ config });
  const localhostRef = join(node.directory, "profile.json");
  execFileSync("mkfifo", [localhostRef]);
  const container = {
    metadata: { name: "c", attempt: 0 },
    image: { image: node.image },
    linux: { securityContext: { seccomp: { profileType: 2, localhostRef } } },
  };
  await expect(
    node.client.createContainer({ podSandboxId, sandboxConfig: config, config: container }, 3000),
  ).rejects.toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining("it is not a regular file"),
  });
  await node.client.removePodSandbox({ podSandboxId }, 5000);
});

test("an image that lost a layer on disk is refused with a remedy", async () => {
  node = await startNode();
  const config = node.podConfig("thin");
  const { podSandboxId } = await node.client.runPodSandbox({ config });
  const layers = join(placesOf(node.directory).image, "layers");
  const [layer = ""] = await readdir(layers);
  await rename(join(layers, layer), join(node.directory, layer));
  await expect(node.runContainer(config, podSandboxId, "c", "true")).rejects.toMatchObject({
    code: status.FAILED_PRECONDITION,
    details: expect.stringContaining(`Layer sha256:${layer}`),
  });
  await rename(join(node.directory, layer), join(layers, layer));
  await node.runContainer(config, podSandboxId, "c", "true");
});

test("a writable layer that cannot be removed leaves no staging directory, and the retry removes it", async () => {
  node = await startNode();
  const { image } = placesOf(node.directory);
  const config = node.podConfig("kept");
  const { podSandboxId } = await node.client.runPodSandbox({ config });
  const containerId = await node.runContainer(config, podSandboxId, "c", "true");
  const lift = await full(join(image, "containers", containerId));
  try {
    // A directory that is a mount point cannot be renamed (EBUSY).
    await expect(node.client.removeContainer({ containerId })).rejects.toThrow("EBUSY");
  } finally {
    await lift();
  }
  expect(await readdir(join(image, "staging"))).toEqual([]);
  await node.client.removeContainer({ containerId });
  expect(await readdir(join(image, "containers"))).toEqual([]);
});

async function monitorPid(podSandboxId: string): Promise<number> {
  const { info } = await node.client.podSandboxStatus({ podSandboxId, verbose: true });
  return Number(JSON.parse(info?.info ?? "{}").pid);
}
