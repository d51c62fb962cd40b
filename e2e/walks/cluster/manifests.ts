// The manifests of the keelson play tests, applied to a cluster: a kubelet must produce the same outcome as keelson
// play.

import assert from "node:assert/strict";
import { basename, join } from "node:path";
import type { V1ContainerStatus, V1Pod } from "@kubernetes/client-node";
import { type ExpectedContainer, type ExpectedPod, outcomes } from "../../fixtures/manifests/outcomes.ts";
import { until } from "../../fixtures/steps.ts";
import { isReady, output, type Scene } from "./scene.ts";

const directory = join(import.meta.dirname, "../../fixtures/manifests");
const deadlineMs = 90_000;

export async function manifests(scene: Scene): Promise<void> {
  await Promise.all(
    outcomes.map((outcome) =>
      scene.check(`${outcome.file} has the same outcome as with keelson play`, async () => {
        await apply(scene, outcome.file);
        const wanted = Object.values(outcome.pods);
        const pods = await settled(scene, outcome.file, wanted);
        const found = await Promise.all(pods.map((pod, index) => observed(scene, pod, wanted[index])));
        assert.deepEqual(found, wanted.map(inFull));
      }),
    ),
  );
}

/** With kubectl, because client-node would read the mode 0400 as decimal. */
async function apply({ cluster, namespace }: Scene, file: string): Promise<void> {
  await output(
    join(cluster.programs, "kubectl"),
    ...[`--kubeconfig=${cluster.controlPlane.kubeConfigFile}`, `--cache-dir=${join(cluster.directory, "kubectl")}`],
    ...[`--namespace=${namespace}`, "apply", `--filename=${join(directory, file)}`],
  );
}

/** Its pods sorted by name, once each has reached its expected state or has ended otherwise. */
async function settled(
  { cluster, namespace }: Scene,
  file: string,
  wanted: readonly ExpectedPod[],
): Promise<readonly V1Pod[]> {
  // Each file's object is named like the file, and the names of a controller's pods start with it.
  const name = basename(file, ".yaml");
  return await cluster.pods(namespace, `${file} has settled`, deadlineMs, (all) => {
    const pods = all.filter(({ metadata }) => metadata?.name === name || metadata?.name?.startsWith(`${name}-`));
    pods.sort((one, other) => (one.metadata?.name ?? "").localeCompare(other.metadata?.name ?? ""));
    return pods.length >= wanted.length && pods.every((pod, index) => hasSettled(pod, wanted[index]))
      ? pods
      : undefined;
  });
}

function hasSettled(pod: V1Pod, wanted: ExpectedPod | undefined): boolean {
  const phase = pod.status?.phase;
  if (phase === "Succeeded" || phase === "Failed") return true;
  if (wanted?.phase === "Running")
    return (
      isReady(pod) && statuses(pod).every((each) => each.restartCount >= (wanted.containers[each.name]?.restarts ?? 0))
    );
  return (
    wanted?.phase === "Pending" && statuses(pod).some(({ state }) => state?.waiting?.reason === "ErrImageNeverPull")
  );
}

/** The pod's outcome, in the fields that the expected outcome has. */
async function observed(scene: Scene, pod: V1Pod, wanted: ExpectedPod | undefined) {
  const containers: Record<string, ExpectedContainer> = {};
  for (const status of statuses(pod)) {
    const { exitCode, log } = wanted?.containers[status.name] ?? {};
    containers[status.name] = {
      restarts: status.restartCount,
      ...(exitCode === undefined ? {} : { exitCode: status.state?.terminated?.exitCode ?? Number.NaN }),
      ...(log === undefined ? {} : { log: await linesOf(scene, pod, status, log.length) }),
    };
  }
  return { phase: pod.status?.phase, reason: pod.status?.reason, containers };
}

function inFull({ phase, reason, containers }: ExpectedPod) {
  return { phase, reason, containers };
}

/**
 * The output of a container. Once it has exited permanently, only that of its last run, because a kubelet keeps one
 * dead container; while it runs, also that of the previous run, waiting until there are `count` lines.
 */
async function linesOf(
  { cluster, namespace }: Scene,
  pod: V1Pod,
  { name: container, state, restartCount }: V1ContainerStatus,
  count: number,
): Promise<readonly string[]> {
  if (state?.waiting !== undefined && restartCount === 0) return [];
  const name = pod.metadata?.name ?? "";
  const read = async (previous: boolean) =>
    (await cluster.core.readNamespacedPodLog({ namespace, name, container, previous })) ?? "";
  return await until(`${count} lines of ${name}/${container}`, 10_000, async () => {
    const before = state?.running !== undefined && restartCount > 0 ? await read(true) : "";
    const lines = (before + (await read(false))).split("\n").slice(0, -1);
    return state?.running === undefined || lines.length >= count ? lines : undefined;
  });
}

function statuses({ status }: V1Pod): readonly V1ContainerStatus[] {
  return [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
}
