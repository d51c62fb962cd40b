// A pod's volumes: memory, projections that follow their sources, images, mount propagation.

import assert from "node:assert/strict";
import { until } from "../../fixtures/steps.ts";
import { spareImage } from "./images.ts";
import { idle, type Scene, shell } from "./scene.ts";

export async function volumes(scene: Scene): Promise<void> {
  const { check, namespace } = scene;
  const { core } = scene.cluster;
  await Promise.all([
    check("a volume in memory does not exceed its size limit", async () => {
      await scene.create("memory", {
        restartPolicy: "Never",
        volumes: [{ name: "memory", emptyDir: { medium: "Memory", sizeLimit: "8Mi" } }],
        containers: [
          shell("main", "grep ' /memory ' /proc/mounts; dd if=/dev/zero of=/memory/a bs=1M count=16", {
            volumeMounts: [{ name: "memory", mountPath: "/memory" }],
          }),
        ],
      });
      assert.equal(await scene.ended("memory"), "Failed");
      assert.match(await scene.log("memory"), /tmpfs[\s\S]*No space left/);
    }),
    check("a projected volume of token, ConfigMap, secret and downward API", async () => {
      await core.createNamespacedConfigMap({
        namespace,
        body: { metadata: { name: "words" }, data: { word: "first" } },
      });
      await core.createNamespacedSecret({
        namespace,
        body: { metadata: { name: "hidden" }, stringData: { key: "s3cret" } },
      });
      await scene.create(
        "projected",
        {
          volumes: [
            {
              name: "all",
              projected: {
                sources: [
                  { serviceAccountToken: { path: "token", audience: "walk" } },
                  { configMap: { name: "words" } },
                  { secret: { name: "hidden" } },
                  { downwardAPI: { items: [{ path: "labels", fieldRef: { fieldPath: "metadata.labels" } }] } },
                ],
              },
            },
          ],
          containers: [shell("main", idle, { volumeMounts: [{ name: "all", mountPath: "/all", readOnly: true }] })],
        },
        { labels: { color: "green" } },
      );
      await scene.ready("projected");
      const read = async (...files: readonly string[]) =>
        (await scene.exec("projected", "main", "cat", ...files.map((file) => `/all/${file}`))).stdout;
      assert.equal(await read("word", "key", "labels"), 'firsts3cretcolor="green"');
      assert.equal((await read("token")).split(".").length, 3);
      await core.replaceNamespacedConfigMap({
        namespace,
        name: "words",
        body: { metadata: { name: "words" }, data: { word: "second" } },
      });
      await until("the changed word", 60_000, async () => ((await read("word")) === "second" ? true : undefined));
      const write = await scene.exec("projected", "main", "touch", "/all/new");
      assert.match(write.stderr, /Read-only/);
      await scene.remove("projected");
    }),
    check("an image as a volume", async () => {
      await scene.create("image", {
        restartPolicy: "Never",
        volumes: [{ name: "image", image: { reference: spareImage, pullPolicy: "IfNotPresent" } }],
        containers: [
          shell("main", "/image/bin/busybox echo it runs; touch /image/new", {
            volumeMounts: [{ name: "image", mountPath: "/image" }],
          }),
        ],
      });
      assert.equal(await scene.ended("image"), "Failed");
      assert.match(await scene.log("image"), /it runs[\s\S]*Read-only/);
    }),
    check("a mount created in one container is visible in another", async () => {
      const volumeMounts = (mountPropagation: string) => [{ name: "shared", mountPath: "/shared", mountPropagation }];
      await scene.create("propagated", {
        volumes: [{ name: "shared", emptyDir: {} }],
        containers: [
          shell(
            "from",
            `mkdir -p /shared/m; mount -t tmpfs none /shared/m; touch /shared/m/file; trap 'umount /shared/m; exit 0' TERM; while true; do sleep 3600 & wait $!; done`,
            { volumeMounts: volumeMounts("Bidirectional"), securityContext: { privileged: true } },
          ),
          shell("to", idle, {
            volumeMounts: volumeMounts("HostToContainer"),
            readinessProbe: { exec: { command: ["test", "-e", "/shared/m/file"] }, periodSeconds: 1 },
          }),
        ],
      });
      await scene.ready("propagated");
      await scene.remove("propagated", 10);
    }),
  ]);
}
