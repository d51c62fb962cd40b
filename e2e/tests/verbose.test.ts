// Fields of verbose answers that scripts rely on and that both peers have: crictl inspecti and inspectp with jq or a
// template.

import { readFile, readlink, stat } from "node:fs/promises";
import Long from "long";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";

let node: TestNode;
beforeAll(async () => {
  node = await startNode();
});
afterAll(() => node.close());

const parsed = ({ info = {} }: { info?: Record<string, string> }) => JSON.parse(info.info ?? "{}");

test("inspecti: .info.imageSpec is the image's own config", async () => {
  const { imageSpec } = parsed(await node.client.imageStatus({ image: { image: node.image }, verbose: true }));
  expect(imageSpec).toMatchObject({
    os: "linux",
    config: { Env: ["PATH=/bin"], Cmd: ["sh"] },
    rootfs: { type: "layers", diff_ids: [expect.stringMatching(/^sha256:/)] },
  });
});

test("inspectp: .info.runtimeSpec.linux.namespaces are the namespaces that the pod's containers share", async () => {
  const pod = node.podConfig("verbose");
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  const containerId = await node.runContainer(pod, podSandboxId, "c", "sleep 1000");
  const { pid } = parsed(await node.client.containerStatus({ containerId, verbose: true }));
  const namespaces = async (): Promise<{ type: string; path: string }[]> =>
    parsed(await node.client.podSandboxStatus({ podSandboxId, verbose: true })).runtimeSpec.linux.namespaces;
  const files = { network: "net", uts: "uts", ipc: "ipc", pid: "pid" };
  const shown = await namespaces();
  expect(shown.map(({ type }) => type).sort()).toEqual(Object.keys(files).sort());
  for (const { type, path } of shown) {
    const own = await readlink(`/proc/${pid}/ns/${Reflect.get(files, type)}`);
    expect(own, type).toContain(`[${(await stat(path)).ino}]`);
  }
  await node.client.stopPodSandbox({ podSandboxId });
  expect(await namespaces()).toEqual([]);
});

test("inspectp and inspect: .info has the processes, places, network lease and resources of this pod only", async () => {
  const pod = node.podConfig("facts");
  const resources = { memoryLimitInBytes: Long.fromNumber(64 << 20) };
  const { podSandboxId } = await node.client.runPodSandbox({ config: { ...pod, linux: { resources } } });
  await node.client.runPodSandbox({ config: node.podConfig("beside") });
  const containerId = await node.runContainer(pod, podSandboxId, "c", "sleep 1000");
  const sandbox = async () => parsed(await node.client.podSandboxStatus({ podSandboxId, verbose: true }));
  const container = async () => parsed(await node.client.containerStatus({ containerId, verbose: true }));
  const shown = await sandbox();
  expect(await readFile(`/proc/${shown.pid}/comm`, "utf8")).toMatch(/^keelson/);
  expect((await stat(shown.netns)).isFile()).toBe(true);
  expect(shown).toMatchObject({
    runtimeHandler: "native",
    podDirectory: expect.stringContaining(podSandboxId),
    cgroup: expect.stringContaining(podSandboxId),
    resources: { memoryLimit: String(64 << 20) },
    leases: [{ sandboxId: podSandboxId }],
    leftovers: [],
  });
  expect(shown.timeline.map(({ stage }: { stage: string }) => stage)).toContain("network");
  const inside = await container();
  expect(inside).toMatchObject({
    sandboxID: podSandboxId,
    runtimeHandler: "native",
    cgroup: expect.stringContaining(containerId),
    runtimeSpec: { process: { args: expect.arrayContaining([expect.stringContaining("sleep 1000")]) } },
  });
  expect((await stat(inside.bundle)).isDirectory()).toBe(true);
  await node.client.stopContainer({ containerId });
  expect((await container()).pid).toBe(0);
});
