// Ten pods started at once, as after the drain of another node.

import { type Bench, timed } from "../bench.ts";
import { cgroupCpu, settledCpu } from "../cpu.ts";
import { planPod, removePod, startPod } from "../pods.ts";
import { samplesForRatio } from "../report/samples.ts";
import { takeTurns } from "../rotation.ts";

const podsAtOnce = 10;

export async function burst({ servers, onOwnPlugins, floors, samples, rounds }: Bench): Promise<void> {
  const participants = [...servers, ...onOwnPlugins, "floors" as const];
  await takeTurns(participants, Math.min(rounds, samplesForRatio), async (server, round, counts) => {
    if (server === "floors") {
      await floors.burst(podsAtOnce, (row, value) => {
        if (counts) samples.add(row, "floor", value);
      });
      return;
    }
    const names = Array.from({ length: podsAtOnce }, (_, index) => `burst-${round}-${index}`);
    const plans = await Promise.all(names.map((name) => planPod(server, name)));
    const before = await cgroupCpu(server.cgroup);
    const [took, pods] = await timed(() => Promise.all(plans.map((plan) => startPod(server, plan))));
    const cpu = (await settledCpu(server.cgroup)) - before;
    if (counts) {
      samples.add("burst", server.name, took);
      samples.add("burst-cpu", server.name, cpu);
    }
    await Promise.all(pods.map((pod) => removePod(server, pod)));
  });
}
