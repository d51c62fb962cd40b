// One pod at a time: its start, execs in it and its removal, with each call measured separately. The floors take turns
// with the servers.

import { type Bench, timed } from "../bench.ts";
import { cgroupCpu, settledCpu } from "../cpu.ts";
import { type GrpcFloor, podAnswers, startGrpcFloor } from "../floors/grpc.ts";
import { type Callee, createContainer, planPod, removePodCgroup, runSandbox, stopContainer } from "../pods.ts";
import type { RowKey } from "../report/rows.ts";
import { percentile, type Samples, type Subject } from "../report/samples.ts";
import { takeTurns } from "../rotation.ts";
import type { Server } from "../servers/server.ts";
import { execTrue } from "./exec.ts";

const execsPerPod = 5;

export async function lifecycle(bench: Bench): Promise<void> {
  const { servers, onOwnPlugins, floors, samples, rounds, directory, cgroup } = bench;
  const participants = [...servers, ...onOwnPlugins, "floors" as const, "gRPC" as const];
  const [server] = servers;
  if (server === undefined) throw new Error("there is no server to measure");
  const grpc = await startGrpcFloor(directory, cgroup, podAnswers);
  try {
    await takeTurns(participants, rounds, async (participant, round, counts) => {
      const name = `pod-${round}`;
      const add = (subject: Subject) => (row: RowKey, value: number) => {
        if (counts) samples.add(row, subject, value);
      };
      if (participant === "floors") await floors.turn(add("floor"));
      else if (participant === "gRPC") await onePod(withAnswersOf(grpc, server), name, add("floor"));
      else await onePod(participant, name, add(participant.name));
    });
  } finally {
    await grpc.stop();
  }
  addShares(
    samples,
    [...servers, ...onOwnPlugins].map(({ name }) => name),
  );
}

/** Sends the requests for `server` to the gRPC floor, which only answers them. */
function withAnswersOf({ client, cgroup }: GrpcFloor, { logs }: Server): Callee {
  return { client, cgroup, logs };
}

async function onePod(server: Callee, name: string, add: (row: RowKey, value: number) => void): Promise<void> {
  const { client, cgroup } = server;
  const plan = await planPod(server, name);

  const before = await cgroupCpu(cgroup);
  const [run, podSandboxId] = await timed(() => runSandbox(server, plan));
  const [create, containerId] = await timed(() => createContainer(server, plan, podSandboxId));
  const [start] = await timed(() => client.startContainer({ containerId }));
  add("run", run);
  add("create", create);
  add("start", start);
  add("pod-start", run + create + start);
  const started = await settledCpu(cgroup);
  add("pod-start-cpu", started - before);

  const pod = { ...plan, podSandboxId, containerId };
  for (let count = 0; count < execsPerPod; count += 1) add("exec", await execTrue(server, containerId));
  const executed = await settledCpu(cgroup);
  add("exec-cpu", (executed - started) / execsPerPod);

  const [stop] = await timed(() => stopContainer(server, pod));
  const [stopPod] = await timed(() => client.stopPodSandbox({ podSandboxId }));
  const [removal] = await timed(async () => {
    await client.removeContainer({ containerId });
    await client.removePodSandbox({ podSandboxId });
  });
  add("stop", stop);
  add("stop-pod", stopPod);
  add("removal", stop + stopPod + removal);
  add("removal-cpu", (await settledCpu(cgroup)) - executed);
  await removePodCgroup(plan);
}

/** Each pod start without the plugins: less the median of ADD alone, because a start's own ADD cannot be measured. */
function addShares(samples: Samples, subjects: readonly Subject[]): void {
  for (const [row, whole, floor] of [
    ["share", "pod-start", "cni-add"],
    ["share-cpu", "pod-start-cpu", "cni-add-cpu"],
  ] as const) {
    const plugins = percentile(samples.of(floor, "floor"), 0.5);
    if (Number.isNaN(plugins)) continue;
    for (const subject of subjects)
      for (const value of samples.of(whole, subject)) samples.add(row, subject, value - plugins);
  }
}
