// Deployments and Jobs.

import assert from "node:assert/strict";
import type { V1PodTemplateSpec } from "@kubernetes/client-node";
import { agnhost, idle, isReady, type Scene, shell } from "./scene.ts";

export async function workloads(scene: Scene): Promise<void> {
  const { check, namespace, cluster } = scene;
  await check("a Deployment of 20 is created, rolled over and deleted", async () => {
    await deploy(scene, "twenty", 20, { containers: [shell("main", idle)] });
    const began = performance.now();
    await readyPods(scene, "twenty", 20);
    scene.say(`20 pods ready after ${((performance.now() - began) / 1000).toFixed(1)} s`);
    await cluster.apps.deleteNamespacedDeployment({ namespace, name: "twenty" });
    const deleted = performance.now();
    await readyPods(scene, "twenty", 0);
    scene.say(`removed ${((performance.now() - deleted) / 1000).toFixed(1)} s after it was deleted`);
  });
  await check("a Job runs its pods to completion", async () => {
    const template: V1PodTemplateSpec = {
      metadata: { labels: { app: "job" } },
      spec: { restartPolicy: "Never", containers: [agnhost("main", ["help"])] },
    };
    await cluster.batch.createNamespacedJob({
      namespace,
      body: { metadata: { name: "job" }, spec: { completions: 4, parallelism: 2, template } },
    });
    await cluster.pods(namespace, "four pods succeeded", 60_000, (pods) =>
      pods.filter(({ status }) => status?.phase === "Succeeded").length === 4 ? true : undefined,
    );
  });
  await check("a failing container is restarted with increasing back-off", async () => {
    await scene.create("crashing", { containers: [shell("main", "exit 1")] });
    const pod = await scene.when("crashing", "a third start", (found) =>
      (found.status?.containerStatuses?.[0]?.restartCount ?? 0) >= 2 ? found : undefined,
    );
    assert.equal(pod.status?.containerStatuses?.[0]?.lastState?.terminated?.exitCode, 1);
    await scene.remove("crashing");
  });
}

/** A Deployment whose pods have its name as their label `app`. */
export async function deploy(
  { cluster, namespace }: Scene,
  name: string,
  replicas: number,
  spec: NonNullable<V1PodTemplateSpec["spec"]>,
): Promise<void> {
  const labels = { app: name };
  await cluster.apps.createNamespacedDeployment({
    namespace,
    body: {
      metadata: { name },
      spec: {
        replicas,
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { terminationGracePeriodSeconds: 1, ...spec } },
      },
    },
  });
}

/** Waits until that Deployment has exactly this many pods, all ready. */
export function readyPods({ cluster, namespace }: Scene, name: string, count: number, deadlineMs = 120_000) {
  return cluster.pods(namespace, `${count} pods of ${name} are ready`, deadlineMs, (pods) => {
    const own = pods.filter(({ metadata }) => metadata?.labels?.app === name);
    return own.length === count && own.every(isReady) ? own : undefined;
  });
}
