// Encoded statistics as a client decodes them: every number in its field.

import { join } from "node:path";
import protobuf from "protobufjs";
import { beforeAll, expect, test } from "vitest";
import type { ContainerStats, Pressure, SandboxStats } from "../../pod/stats/types.ts";
import { containerEncoder } from "./encode-container.ts";
import { sandboxEncoder } from "./encode-sandbox.ts";
import { encodeContainerStats, encodeSandboxStats } from "./encode-stats.ts";
import { runtime } from "./generated/messages.js";
import { metricCalls } from "./metric-calls.ts";
import { serveEdge } from "./testing/edge.ts";
import { memoryPods } from "./testing/memory-pods.ts";
import { containerConfig, sandboxConfig } from "./testing/requests.ts";

const wire = protobuf.loadSync(join(import.meta.dirname, "api.proto"));
const pods = memoryPods();
let container: ContainerStats;
let sandbox: SandboxStats;

/** Eight different numbers. */
function pressure(base: number): Pressure {
  const line = (from: number) => ({ avg10: from + 0.1, avg60: from + 0.2, avg300: from + 0.3, total: BigInt(from) });
  return { some: line(base), full: line(base + 1) };
}

/** The totals are converted from microseconds to nanoseconds. */
function psi(base: number): object {
  const line = (from: number) => ({
    Total: String(from * 1000),
    Avg10: from + 0.1,
    Avg60: from + 0.2,
    Avg300: from + 0.3,
  });
  return { Some: line(base), Full: line(base + 1) };
}

const value = (text: string) => ({ value: text });

beforeAll(async () => {
  await using edge = await serveEdge(pods);
  const { podSandboxId } = await edge.client.call("RunPodSandbox", { config: sandboxConfig() });
  const { containerId } = await edge.client.call("CreateContainer", { podSandboxId, config: containerConfig() });
  const cpu = { timestamp: 1n, usageCoreNanoSeconds: 2n, usageNanoCores: 3n, pressure: pressure(10) };
  const memory = {
    timestamp: 1n,
    workingSetBytes: 4n,
    availableBytes: 5n,
    usageBytes: 6n,
    rssBytes: 7n,
    pageFaults: 8n,
    majorPageFaults: 1n << 40n,
    pressure: pressure(20),
  };
  container = {
    container: pods.container(String(containerId)),
    cpu,
    memory,
    writableLayer: { timestamp: 1n, mountpoint: "/layers", usedBytes: 9n, inodesUsed: 10n },
    swap: { timestamp: 1n, usageBytes: 11n, availableBytes: 12n },
    ioPressure: pressure(30),
  };
  const counts = { rxPackets: 0n, rxDropped: 0n, txPackets: 0n, txDropped: 0n };
  const eth0 = { name: "eth0", rxBytes: 13n, rxErrors: 14n, txBytes: 15n, txErrors: 16n, ...counts };
  sandbox = {
    sandbox: pods.sandbox(String(podSandboxId)),
    cpu,
    memory,
    processCount: 17n,
    network: { timestamp: 1n, defaultInterface: eth0, interfaces: [{ ...eth0, name: "lo" }] },
    ioPressure: pressure(40),
    containers: [container],
  };
});

const cpuUsage = { timestamp: "1", usageCoreNanoSeconds: value("2"), usageNanoCores: value("3"), psi: psi(10) };
const memoryUsage = {
  timestamp: "1",
  workingSetBytes: value("4"),
  availableBytes: value("5"),
  usageBytes: value("6"),
  rssBytes: value("7"),
  pageFaults: value("8"),
  majorPageFaults: value(String(2 ** 40)),
  psi: psi(20),
};
const containerUsage = {
  cpu: cpuUsage,
  memory: memoryUsage,
  writableLayer: { timestamp: "1", fsId: { mountpoint: "/layers" }, usedBytes: value("9"), inodesUsed: value("10") },
  swap: { timestamp: "1", swapUsageBytes: value("11"), swapAvailableBytes: value("12") },
  io: { timestamp: "1", psi: psi(30) },
};

/** Decodes field 1 of a list response with api.proto itself. */
function decoded(list: "ListContainerStats" | "ListPodSandboxStats", bytes: Buffer): object {
  const type = wire.lookupType(`runtime.v1.${list}Response`);
  return type.toObject(type.decode(bytes), { longs: String });
}

test("container statistics are encoded, twice with the same result", () => {
  const encoder = containerEncoder();
  for (let times = 0; times < 2; times += 1)
    expect(decoded("ListContainerStats", encodeContainerStats(container, encoder, 1))).toMatchObject({
      stats: [containerUsage],
    });
});

test("a changed pressure is encoded", () => {
  const changed = { ...container, ioPressure: pressure(50) };
  expect(decoded("ListContainerStats", encodeContainerStats(changed, containerEncoder(), 1))).toMatchObject({
    stats: [{ io: { psi: psi(50) } }],
  });
});

test("values that were not measured are absent", () => {
  const bytes = encodeContainerStats({ container: container.container }, containerEncoder(), 1);
  expect(decoded("ListContainerStats", bytes)).toEqual({
    stats: [{ attributes: expect.objectContaining({ id: container.container.id }) }],
  });
});

test("pod statistics include the pod's containers", () => {
  const bytes = encodeSandboxStats(sandbox, sandboxEncoder(), containerEncoder());
  const usage = (name: string) => ({
    name,
    rxBytes: value("13"),
    rxErrors: value("14"),
    txBytes: value("15"),
    txErrors: value("16"),
  });
  expect(decoded("ListPodSandboxStats", bytes)).toMatchObject({
    stats: [
      {
        attributes: { id: sandbox.sandbox.id },
        linux: {
          cpu: cpuUsage,
          memory: memoryUsage,
          network: { timestamp: "1", defaultInterface: usage("eth0"), interfaces: [usage("lo")] },
          process: { timestamp: "1", processCount: value("17") },
          io: { timestamp: "1", psi: psi(40) },
          containers: [{ ...containerUsage, attributes: { id: container.container.id } }],
        },
      },
    ],
  });
});

test("a container's metrics are labelled with the image in its status, not with the id given by the kubelet", async () => {
  const { config } = container.container;
  const byId = { ...config, image: { ...config.image, image: container.container.imageId } };
  const shownImage = { name: "docker.io/library/busybox:1", reference: container.container.imageId };
  const stats = { ...container, container: { ...container.container, config: byId, shownImage } };
  const fileSystem = { device: "/dev/vda", limitBytes: 1n, inodes: 1n, inodesFree: 1n };
  const calls = metricCalls({
    sandboxMetrics: async () => [{ stats: { ...sandbox, containers: [stats] }, containers: new Map(), fileSystem }],
  });
  const { bytes } = await calls.ListPodSandboxMetrics();
  const [pod] = runtime.v1.ListPodSandboxMetricsResponse.decode(bytes).podMetrics;
  const labels = pod?.containerMetrics?.[0]?.metrics?.map(({ labelValues }) => labelValues?.[2]);
  expect(new Set(labels)).toEqual(new Set(["docker.io/library/busybox:1"]));
});
