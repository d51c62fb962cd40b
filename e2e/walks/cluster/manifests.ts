// The manifests of keelson play, applied to a cluster: a kubelet must make of each what keelson play makes of it.

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
      scene.check(`${outcome.file} becomes what keelson play makes of it`, async () => {
        await apply(scene, outcome.file);
        const wanted = Object.values(outcome.pods);
        const pods = await settled(scene, outcome.file, wanted);
        const found = await Promise.all(pods.map((pod, index) => observed(scene, pod, wanted[index])));
        assert.deepEqual(found, wanted.map(inFull));
      }),
    ),
  );
}

/** By kubectl: client-node would read the mode 0400 as decimal. */
async function apply({ cluster, namespace }: Scene, file: string): Promise<void> {
  await output(
    join(cluster.programs, "kubectl"),
    ...[`--kubeconfig=${cluster.controlPlane.kubeConfigFile}`, `--cache-dir=${join(cluster.directory, "kubectl")}`],
    ...[`--namespace=${namespace}`, "apply", `--filename=${join(directory, file)}`],
  );
}

/** Its pods in the order of their names, once each has come where it is to come or has ended otherwise. */
async function settled(
  { cluster, namespace }: Scene,
  file: string,
  wanted: readonly ExpectedPod[],
): Promise<readonly V1Pod[]> {
  // Each file's object has the name of the file, and a controller's pods begin with it.
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

/** What has become of the pod, as far as an outcome says anything of it. */
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
 * The output of a container: of its last life alone once it has ended for good, as a kubelet keeps one dead container,
 * and of the one before as well while it runs, which is given time to write so many lines.
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
