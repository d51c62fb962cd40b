// Pods that use too much disk, and a node that runs out of disk: which pods the kubelet evicts, and which images it
// removes.

import assert from "node:assert/strict";
import { connectCri } from "../../fixtures/client.ts";
import type { Node } from "../../fixtures/kubernetes/node.ts";
import { until } from "../../fixtures/steps.ts";
import { type Archives, loadImages, spareImage, toolsImage } from "./images.ts";
import { idle, type Scene, shell } from "./scene.ts";
import { settings } from "./settings.ts";

export async function evictions(scene: Scene): Promise<void> {
  const { check } = scene;
  const evicted = async (name: string, reason: RegExp): Promise<void> => {
    assert.equal(await scene.ended(name, 90_000), "Failed");
    const { status } = await scene.when(name, "its status", (pod) => pod);
    assert.equal(status?.reason, "Evicted");
    assert.match(status?.message ?? "", reason);
  };
  const fill = (path: string) => `head -c 30m /dev/zero > ${path}; sleep 3600`;
  await Promise.all([
    check("a pod that exceeds its volume's size limit is evicted", async () => {
      await scene.create("volume", {
        volumes: [{ name: "small", emptyDir: { sizeLimit: "10Mi" } }],
        containers: [shell("main", fill("/small/file"), { volumeMounts: [{ name: "small", mountPath: "/small" }] })],
      });
      await evicted("volume", /exceeds the limit/);
    }),
    check("a pod that exceeds the limit of its writable layer is evicted", async () => {
      await scene.create("layer", {
        containers: [shell("main", fill("/file"), { resources: { limits: { "ephemeral-storage": "10Mi" } } })],
      });
      await evicted("layer", /exceeds its local ephemeral storage limit|exceeds the total limit/i);
    }),
  ]);
}

/** On the second node, because everything on it is evicted. */
export function diskPressure(archives: Archives): (scene: Scene) => Promise<void> {
  return async (scene) => {
    const [, node] = scene.cluster.nodes;
    if (node === undefined) throw new Error("there is no second node");
    const elsewhere = { nodeSelector: { "kubernetes.io/hostname": node.name } };
    await scene.check("a node short of disk removes unused images and evicts pods", async () => {
      await scene.create("evicted", { ...elsewhere, containers: [shell("main", idle)] });
      await scene.ready("evicted");
      await node.restartKubelet({ ...settings, evictionHard: { "imagefs.available": "99%" } });
      await imagesOf(node, (names) => !names.includes(spareImage));
      assert.equal(await scene.ended("evicted", 90_000), "Failed");
      const { status } = await scene.when("evicted", "its status", (pod) => pod);
      assert.equal(status?.reason, "Evicted");
    });
    await scene.check("with free space again, it accepts pods as before", async () => {
      await node.restartKubelet();
      loadImages(node, archives);
      await imagesOf(node, (names) => names.includes(toolsImage));
      await scene.create("after", { ...elsewhere, containers: [shell("main", idle)] });
      await scene.ready("after");
    });
  };
}

/** Waits until the names of the node's images satisfy a condition. */
async function imagesOf(node: Node, right: (names: readonly string[]) => boolean): Promise<void> {
  const client = connectCri(node.daemon.socket);
  try {
    await until(`the images of ${node.name}`, 90_000, async () => {
      const { images } = await client.listImages({});
      return right(images.flatMap(({ repoTags }) => repoTags ?? [])) ? true : undefined;
    });
  } finally {
    client.close();
  }
}
