// Recovery time: from killing and restarting the server until it lists all pods and containers again.

import { setTimeout as delay } from "node:timers/promises";
import type { CriClient } from "../../../fixtures/client.ts";
import { type Bench, timed } from "../bench.ts";
import { type GrpcFloor, startGrpcFloor, versionOnly } from "../floors/grpc.ts";
import type { RowKey } from "../report/rows.ts";
import { samplesForRatio } from "../report/samples.ts";
import { takeTurns } from "../rotation.ts";
import type { Server } from "../servers/server.ts";

/** cri-api's PodSandboxState.SANDBOX_READY and ContainerState.CONTAINER_RUNNING. */
const [ready, running] = [0, 1];
const few = 20;
/** Delay before the next turn: a server continues its start after its first response. */
const settleMs = 200;

export async function recovery(bench: Bench): Promise<void> {
  const floor = await startGrpcFloor(bench.directory, bench.cgroup, versionOnly);
  try {
    await recover(bench, floor, "recovery-many", bench.pods);
    await recover(bench, floor, "recovery-few", few);
  } finally {
    await floor.stop();
  }
}

async function recover(bench: Bench, floor: GrpcFloor, row: RowKey, pods: number): Promise<void> {
  const { servers, fleet, samples, rounds } = bench;
  await fleet.resize(servers, pods);
  const turns = Math.min(rounds, samplesForRatio);
  await takeTurns<Server | GrpcFloor>([...servers, floor], turns, async (participant, _, counts) => {
    if (!("name" in participant)) {
      const started = await participant.restart();
      if (counts) samples.add("grpc-start", "floor", started);
      return;
    }
    const server = participant;
    const [took] = await timed(async () => {
      await server.kill();
      server.launch();
      await server.ready((client) => hasAll(client, pods));
    });
    if (counts) samples.add(row, server.name, took);
    await delay(settleMs);
  });
}

async function hasAll(client: CriClient, pods: number): Promise<boolean> {
  const { items } = await client.listPodSandbox({ filter: { state: { state: ready } } });
  if (items.length < pods) return false;
  const { containers } = await client.listContainers({ filter: { state: { state: running } } });
  return containers.length >= pods;
}
