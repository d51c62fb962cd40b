// The order and restarts of init containers, and sidecars that start before and stop after the pod's main containers.

import assert from "node:assert/strict";
import type { V1PodSpec } from "@kubernetes/client-node";
import { idle, type Scene, shell, statusOf } from "./scene.ts";

const volumes = [{ name: "shared", emptyDir: {} }];
const volumeMounts = [{ name: "shared", mountPath: "/shared" }];

export async function initContainers(scene: Scene): Promise<void> {
  const { check } = scene;
  const ending: Pick<V1PodSpec, "restartPolicy" | "volumes"> = { restartPolicy: "OnFailure", volumes };
  await Promise.all([
    check("init containers run one after the other, before the main containers", async () => {
      const init = (name: string) => shell(name, `sleep 0.2; echo ${name} >> /shared/order`, { volumeMounts });
      await scene.create("ordered", {
        ...ending,
        initContainers: [init("one"), init("two"), init("three")],
        containers: [shell("main", "cat /shared/order", { volumeMounts })],
      });
      assert.equal(await scene.ended("ordered"), "Succeeded");
      assert.equal(await scene.log("ordered"), "one\ntwo\nthree\n");
    }),
    check("an init container that fails is restarted, and the pod becomes ready", async () => {
      const script = "echo x >> /shared/tries; [ $(wc -l < /shared/tries) -ge 3 ]";
      await scene.create("retried", {
        ...ending,
        initContainers: [shell("stubborn", script, { volumeMounts })],
        containers: [shell("main", "wc -l < /shared/tries", { volumeMounts })],
      });
      assert.equal(await scene.ended("retried"), "Succeeded");
      assert.equal((await scene.log("retried")).trim(), "3");
      const pod = await scene.when("retried", "its status", (found) => found);
      assert.equal(statusOf(pod, "stubborn")?.restartCount, 2);
    }),
    check("an init container that fails permanently fails the pod", async () => {
      await scene.create("failed", {
        restartPolicy: "Never",
        initContainers: [shell("broken", "exit 3")],
        containers: [shell("main", "true")],
      });
      assert.equal(await scene.ended("failed"), "Failed");
      const pod = await scene.when("failed", "its status", (found) => found);
      assert.equal(statusOf(pod, "broken")?.state?.terminated?.exitCode, 3);
      assert.equal(statusOf(pod, "main")?.state?.waiting?.reason, "PodInitializing");
    }),
    check("a sidecar starts before the main container and stops after it", async () => {
      const sidecar = "echo up > /shared/state; trap 'echo down >> /shared/state; cat /shared/state; exit 0' TERM";
      await scene.create("sidecar", {
        ...ending,
        terminationGracePeriodSeconds: 10,
        initContainers: [
          shell("sidecar", `sleep 1; ${sidecar}; while true; do sleep 3600 & wait $!; done`, {
            volumeMounts,
            restartPolicy: "Always",
            startupProbe: {
              exec: { command: ["test", "-e", "/shared/state"] },
              periodSeconds: 1,
              failureThreshold: 30,
            },
          }),
        ],
        containers: [shell("main", "cat /shared/state; echo main >> /shared/state", { volumeMounts })],
      });
      assert.equal(await scene.ended("sidecar"), "Succeeded");
      assert.equal(await scene.log("sidecar", "main"), "up\n");
      assert.equal(await scene.log("sidecar", "sidecar"), "up\nmain\ndown\n");
    }),
    check("a sidecar that exits is restarted while the main container runs", async () => {
      await scene.create("restarted", {
        containers: [shell("main", idle)],
        initContainers: [shell("sidecar", "sleep 1; exit 1", { restartPolicy: "Always" })],
      });
      await scene.when("restarted", "the sidecar's second restart", (pod) =>
        (statusOf(pod, "sidecar")?.restartCount ?? 0) >= 2 ? true : undefined,
      );
      const pod = await scene.when("restarted", "its status", (found) => found);
      assert.equal(statusOf(pod, "main")?.restartCount, 0);
      await scene.remove("restarted");
    }),
  ]);
}
