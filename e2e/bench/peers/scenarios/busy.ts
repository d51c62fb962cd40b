// The latency of a kubelet's lists while the server is busy: ten pods are started and a large image is pulled.

import { setTimeout as delay } from "node:timers/promises";
import { toolsDirectory } from "../../../fixtures/tools.ts";
import { type Bench, timed } from "../bench.ts";
import { images, serveLargeImages } from "../images.ts";
import { planPod, removePod, startPod } from "../pods.ts";
import type { Server } from "../servers/server.ts";

const podsAtOnce = 10;
const pauseMs = 20;
const pullDeadlineMs = 300_000;

export async function busy({ servers, fleet, samples, pods, pulls }: Bench): Promise<void> {
  await fleet.resize(servers, pods);
  // An image that no server has pulled yet.
  const image = { image: images.large(pulls + 1) };
  const registry = await serveLargeImages(toolsDirectory(process.env), pulls + 1);
  for (const server of servers) {
    const names = Array.from({ length: podsAtOnce }, (_, index) => `busy-${index}`);
    const plans = await Promise.all(names.map((name) => planPod(server, name)));
    const work = Promise.all([
      Promise.all(plans.map((plan) => startPod(server, plan))),
      server.client.pullImage({ image }, pullDeadlineMs),
    ]);
    for (const took of await listsUntil(server, work)) samples.add("busy", server.name, took);
    const [started] = await work;
    await Promise.all(started.map((pod) => removePod(server, pod)));
  }
  await registry.stop();
}

/** The duration of each list, one after another with a pause in between, until the work has finished. */
async function listsUntil({ client }: Server, work: Promise<unknown>): Promise<number[]> {
  let goesOn = true;
  const ended = work.finally(() => {
    goesOn = false;
  });
  // The caller awaits the work and handles its failure.
  ended.catch(() => undefined);
  const times: number[] = [];
  while (goesOn) {
    times.push((await timed(() => client.listContainers({})))[0]);
    await delay(pauseMs);
  }
  return times;
}
