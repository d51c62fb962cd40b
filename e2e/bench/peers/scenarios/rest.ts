// Many idle pods on every server: the idle cost, execs in them, lists and statistics of them, and memory afterwards.

import { setTimeout as delay } from "node:timers/promises";
import type { CriClient } from "../../../fixtures/client.ts";
import { type Bench, timed } from "../bench.ts";
import { cgroupCpu, settledCpu } from "../cpu.ts";
import type { Cost } from "../floors/floor.ts";
import { answersOf, type GrpcFloor, startGrpcFloor } from "../floors/grpc.ts";
import { megabytesAlone, megabytesOfAll } from "../memory.ts";
import type { Pod } from "../pods.ts";
import type { RowKey } from "../report/rows.ts";
import { takeTurns } from "../rotation.ts";
import type { Server } from "../servers/server.ts";
import { execTrue } from "./exec.ts";

/** Longer than the servers take until their last attempt to release memory. */
const settleMs = 25_000;
/** Longer than the interval at which Keelson releases its program's pages: a minute. */
const restMs = 75_000;
const idleMs = 10_000;
const execsPerTurn = 5;
const listsPerTurn = 3;

export async function rest(bench: Bench): Promise<void> {
  const { servers, fleet, pods, directory, cgroup } = bench;
  await fleet.resize(servers, pods);
  await idle(bench);
  const keelson = servers.find(({ name }) => name === "keelson");
  const [pod] = keelson === undefined ? [] : fleet.of(keelson);
  if (keelson === undefined || pod === undefined) throw new Error("the floors of lists need Keelson's responses");
  const floor = await startGrpcFloor(directory, cgroup, await answersOf(keelson.client, pod));
  try {
    await turns(bench, floor, await kernelReads(bench, keelson));
    bench.samples.add("grpc-pss", "floor", await floor.megabytes());
  } finally {
    await floor.stop();
  }
  await memory(bench);
  bench.note(`Pods at rest on each server: ${pods}`);
}

async function turns(bench: Bench, floor: GrpcFloor, reads: readonly KernelReads[]): Promise<void> {
  const { servers, fleet, samples, rounds, pods } = bench;
  await takeTurns<Server | GrpcFloor>([...servers, floor], rounds, async (participant, round, counts) => {
    const add = (row: RowKey, value: number): void => {
      if (counts) samples.add(row, "name" in participant ? participant.name : "floor", value);
    };
    if (!("name" in participant)) {
      const { wall, cpu } = await participant.calls(execsPerTurn);
      for (const milliseconds of wall) add("grpc", milliseconds);
      add("grpc-cpu", cpu);
      await lists("the gRPC floor", participant.client, "", pods, add);
      for (const { row, read } of reads) for (const { wall } of await read(listsPerTurn)) add(row, wall);
      return;
    }
    const server = participant;
    const pod = fleet.of(server)[round % pods];
    if (pod === undefined) throw new Error(`${server.name} has no pod at rest`);
    await execs(server, pod, add);
    await lists(server.name, server.client, pod.containerId, pods, add);
  });
}

/** Reads the kernel's files for statistics. */
interface KernelReads {
  readonly row: RowKey;
  readonly read: (count: number) => Promise<readonly Cost[]>;
}

async function kernelReads({ fleet, floors }: Bench, keelson: Server): Promise<readonly KernelReads[]> {
  const pods = fleet.of(keelson);
  return [
    { row: "kernel-container-stats", read: await floors.statsReader("containers", pods) },
    { row: "kernel-pod-stats", read: await floors.statsReader("pods", pods) },
  ];
}

/** Measures all servers during the same interval. */
async function idle({ servers, samples }: Bench): Promise<void> {
  await delay(settleMs);
  const cpu = () => Promise.all(servers.map(({ cgroup }) => cgroupCpu(cgroup)));
  const [took, used] = await timed(async () => {
    const before = await cpu();
    await delay(idleMs);
    return (await cpu()).map((after, index) => after - (before[index] ?? 0));
  });
  for (const [index, { name }] of servers.entries()) samples.add("idle", name, (used[index] ?? 0) / (took / 1000));
}

async function execs(server: Server, { containerId }: Pod, add: (row: RowKey, value: number) => void): Promise<void> {
  const before = await cgroupCpu(server.cgroup);
  for (let count = 0; count < execsPerTurn; count += 1) add("exec-rest", await execTrue(server, containerId));
  add("exec-rest-cpu", ((await settledCpu(server.cgroup)) - before) / execsPerTurn);
}

async function lists(
  name: string,
  client: CriClient,
  containerId: string,
  expected: number,
  add: (row: RowKey, value: number) => void,
): Promise<void> {
  const list = async (row: RowKey, call: () => Promise<readonly unknown[]>): Promise<void> => {
    const [took, found] = await timed(call);
    if (found.length !== expected) throw new Error(`${name}: ${row} has ${found.length} of ${expected} pods`);
    add(row, took);
  };
  for (let count = 0; count < listsPerTurn; count += 1) {
    await list("container-stats", async () => (await client.listContainerStats({})).stats);
    await list("pod-stats", async () => (await client.listPodSandboxStats({})).stats);
    await list("containers", async () => (await client.listContainers({})).containers);
    await list("pods", async () => (await client.listPodSandbox({})).items);
    add("status", (await timed(() => client.containerStatus({ containerId })))[0]);
    add("version", (await timed(() => client.version({})))[0]);
  }
}

/** Measures right after the last response, and again after a while without requests. */
async function memory({ servers, samples }: Bench): Promise<void> {
  for (const { name, pid, helper } of servers) {
    samples.add("daemon-pss", name, await megabytesAlone(pid));
    samples.add("helpers-pss", name, await megabytesOfAll(helper));
  }
  await delay(restMs);
  for (const { name, pid } of servers) samples.add("daemon-pss-rest", name, await megabytesAlone(pid));
}
