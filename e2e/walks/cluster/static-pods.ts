// Static pods, from files in the kubelet's directory, visible in the API as mirror pods.

import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { containerId, idle, isReady, type Scene, shell } from "./scene.ts";

export async function staticPods(scene: Scene): Promise<void> {
  const { cluster, node, namespace, check } = scene;
  const file = join(node.staticPods, "static.json");
  const name = `static-${node.name}`;
  const write = (word: string) =>
    writeFile(
      file,
      JSON.stringify({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "static", namespace },
        spec: { terminationGracePeriodSeconds: 1, containers: [shell("main", `echo ${word}; ${idle}`)] },
      }),
    );
  const mirror = (what: string, known: string) =>
    cluster.pods(namespace, what, 60_000, (pods) => {
      const pod = pods.find(({ metadata }) => metadata?.name === name);
      const id = containerId(pod?.status?.containerStatuses?.[0]);
      return pod !== undefined && isReady(pod) && id !== "" && id !== known ? id : undefined;
    });

  let first = "";
  await check("a file becomes a pod", async () => {
    await write("first");
    first = await mirror("the static pod is ready", "");
  });
  await check("a changed file replaces it", async () => {
    await write("second");
    await mirror("its successor is ready", first);
    assert.equal(await scene.log(name), "second\n");
  });
  await check("removing the file stops the pod", async () => {
    await rm(file);
    await cluster.pods(namespace, "the mirror pod is removed", 60_000, (pods) =>
      pods.length === 0 ? true : undefined,
    );
  });
}
