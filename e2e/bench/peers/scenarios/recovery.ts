// The server is killed and started again: how long until it knows all pods and containers as before.

import { setTimeout as delay } from "node:timers/promises";
import type { CriClient } from "../../../fixtures/client.ts";
import { type Bench, timed } from "../bench.ts";
import type { RowKey } from "../report/rows.ts";
import { samplesForRatio } from "../report/samples.ts";
import { takeTurns } from "../rotation.ts";

/** cri-api's PodSandboxState.SANDBOX_READY and ContainerState.CONTAINER_RUNNING. */
const [ready, running] = [0, 1];
const few = 20;
/** Before the next one's turn: a server goes on with its start after it has answered. */
const settleMs = 200;

export async function recovery(bench: Bench): Promise<void> {
  await recover(bench, "recovery-many", bench.pods);
  await recover(bench, "recovery-few", few);
}

async function recover({ servers, fleet, samples, rounds }: Bench, row: RowKey, pods: number): Promise<void> {
  await fleet.resize(servers, pods);
  await takeTurns(servers, Math.min(rounds, samplesForRatio), async (server, _, counts) => {
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
