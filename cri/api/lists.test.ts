// Lists of 100: unchanged objects are not encoded again, and the cost of a list is bounded.

import { expect, test } from "vitest";
import type { ContainerView } from "../../pod/types.ts";
import { containerEncoder } from "./encode-container.ts";
import { listCache } from "./encoded.ts";
import { connect } from "./testing/client.ts";
import { serveEdge } from "./testing/edge.ts";
import { memoryPods } from "./testing/memory-pods.ts";
import { containerConfig, sandboxConfig } from "./testing/requests.ts";

const labels = Object.fromEntries(Array.from({ length: 8 }, (_, n) => [`kubernetes.io/label-${n}`, "x".repeat(40)]));
const annotations = { "io.kubernetes.container.ports": "y".repeat(400) };

test("a view is encoded once, and again only when it changed", async () => {
  const pods = memoryPods();
  await using edge = await serveEdge(pods);
  const { podSandboxId } = await edge.client.call("RunPodSandbox", { config: sandboxConfig() });
  const { containerId } = await edge.client.call("CreateContainer", { podSandboxId, config: containerConfig() });
  const view = pods.container(String(containerId));
  const encoder = containerEncoder();
  expect(encoder.listed(view)).toBe(encoder.listed(view));
  // As a slice of a 64 KiB pool block, it would keep the entire block alive.
  expect(encoder.listed(view).buffer.byteLength).toBe(encoder.listed(view).length);
  expect((await edge.client.call("ListContainers")).containers).toMatchObject([{ state: "CONTAINER_EXITED" }]);
  const running: ContainerView = { ...view, phase: { state: "running", startedAt: 1n, pid: 2 } };
  pods.containerViews.set(view.id, running);
  expect((await edge.client.call("ListContainers")).containers).toMatchObject([{ state: "CONTAINER_RUNNING" }]);
  expect(encoder.listed(running)).not.toEqual(encoder.listed(view));
});

test("a list is assembled once, and again when an item is changed, added or removed", () => {
  const list = listCache();
  const [one, two] = [Buffer.from("one"), Buffer.from("two")];
  const both = list([one, two]);
  expect(list([one, two])).toBe(both);
  for (const items of [[two, one], [one], [], [one, Buffer.from("new")], [one, two]])
    expect(list(items).bytes).toEqual(Buffer.concat(items));
});

test("a streamed list of any size is sent in messages within the client's limit", async () => {
  await using edge = await serveEdge(memoryPods());
  // Kubernetes allows 256 KiB of annotations; a pod's metrics may be as large.
  const config = sandboxConfig({ annotations: { "example.com/large": "x".repeat(256 << 10) } });
  for (let n = 0; n < 100; n++) await edge.client.call("RunPodSandbox", { config });
  const sizes: number[] = [];
  const signal = new AbortController().signal;
  for await (const { podSandboxes } of edge.client.stream("StreamPodSandboxes", {}, signal))
    if (Array.isArray(podSandboxes)) sizes.push(podSandboxes.length);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(100);
  expect(Math.max(...sizes)).toBeLessThan(40);
  expect(Math.min(...sizes)).toBeGreaterThan(0);
});

test("lists of 100 take little longer than a Version call", async () => {
  await using edge = await serveEdge(memoryPods());
  for (let n = 0; n < 100; n++) {
    const { podSandboxId } = await edge.client.call("RunPodSandbox", {
      config: sandboxConfig({ labels, annotations }),
    });
    await edge.client.call("CreateContainer", { podSandboxId, config: containerConfig({ labels, annotations }) });
  }
  const client = connect(edge.socket);
  const median = async (path: string) => {
    const times: number[] = [];
    for (let n = 0; n < 300; n++) {
      const started = performance.now();
      await client.callBytes(`/runtime.v1.RuntimeService/${path}`, new Uint8Array());
      times.push(performance.now() - started);
    }
    return times.sort((a, b) => a - b)[150] ?? 0;
  };
  const version = await median("Version");
  const cost = { ListContainers: 0, ListPodSandbox: 0, ListContainerStats: 0, ListPodSandboxStats: 0 };
  for (const path of ["ListContainers", "ListPodSandbox", "ListContainerStats", "ListPodSandboxStats"] as const) {
    cost[path] = await median(path);
  }
  client.close();
  const figures = Object.entries({ Version: version, ...cost }).map(([path, ms]) => `${path} ${ms.toFixed(2)}`);
  console.log(`100 containers, client and server in one process, p50 in ms: ${figures.join(", ")}`);
  // Generous bounds, for a busy machine: they catch encoding on every call, which costs several ms.
  expect(cost.ListContainers).toBeLessThan(version + 4);
  expect(cost.ListPodSandbox).toBeLessThan(version + 4);
  expect(cost.ListContainerStats).toBeLessThan(version + 10);
});
