// A pod's resource limits: the cgroups of the three QoS classes, and in-place resizes.

import assert from "node:assert/strict";
import { NodeV1Api, type V1ResourceRequirements } from "@kubernetes/client-node";
import { cgroupFile, containerId, idle, type Scene, shell, statusOf } from "./scene.ts";

const classes: Readonly<Record<string, { readonly directory: string; readonly resources: V1ResourceRequirements }>> = {
  guaranteed: { directory: "", resources: { limits: { cpu: "100m", memory: "64Mi" } } },
  burstable: { directory: "burstable/", resources: { requests: { cpu: "100m" }, limits: { memory: "64Mi" } } },
  besteffort: { directory: "besteffort/", resources: {} },
};

export async function resources(scene: Scene): Promise<void> {
  const { check, node } = scene;
  const place = (kind: string, uid: string) => `kubepods/${classes[kind]?.directory}pod${uid}`;
  await Promise.all([
    ...Object.entries(classes).map(([kind, wanted]) =>
      check(`the cgroups of a ${kind} pod`, async () => {
        await scene.create(kind, { containers: [shell("main", idle, { resources: wanted.resources })] });
        const pod = await scene.ready(kind);
        assert.equal(pod.status?.qosClass?.toLowerCase(), kind);
        const path = `${place(kind, pod.metadata?.uid ?? "")}/${containerId(statusOf(pod, "main"))}`;
        const [memory, quota, processes] = await Promise.all([
          cgroupFile(node, path, "memory.limit_in_bytes", "memory.max"),
          cgroupFile(node, path, "cpu.cfs_quota_us", "cpu.max"),
          cgroupFile(node, path, "pids.current", "pids.current"),
        ]);
        if (wanted.resources.limits?.memory === undefined) assert.ok(memory === "max" || Number(memory) > 2 ** 50);
        else assert.equal(Number(memory), 64 << 20);
        assert.match(quota, wanted.resources.limits?.cpu === undefined ? /^(-1|max .*)$/ : /^10000\b/);
        assert.ok(Number(processes) > 0, `pids.current is ${processes}`);
        await scene.remove(kind);
      }),
    ),
    check("CPU and memory are resized in place", async () => {
      const before = { requests: { cpu: "100m", memory: "32Mi" }, limits: { cpu: "100m", memory: "32Mi" } };
      const after = { requests: { cpu: "200m", memory: "48Mi" }, limits: { cpu: "200m", memory: "48Mi" } };
      const restart = [{ resourceName: "memory", restartPolicy: "RestartContainer" }];
      await scene.create("resized", {
        containers: [
          shell("main", idle, { resources: before }),
          shell("restarted", idle, { resources: before, resizePolicy: restart }),
        ],
      });
      const created = await scene.ready("resized");
      await resize(scene, "resized", { main: after, restarted: after });
      const pod = await scene.when("resized", "resized", (found) => {
        const each = ["main", "restarted"].map((name) => statusOf(found, name));
        return each.every(
          (status) =>
            status?.state?.running !== undefined &&
            status.resources?.limits?.cpu === "200m" &&
            status.resources.limits.memory === "48Mi",
        ) && each[1]?.restartCount === 1
          ? found
          : undefined;
      });
      assert.equal(statusOf(pod, "main")?.restartCount, 0);
      assert.equal(containerId(statusOf(pod, "main")), containerId(statusOf(created, "main")));
      for (const name of ["main", "restarted"]) {
        const path = `${place("guaranteed", pod.metadata?.uid ?? "")}/${containerId(statusOf(pod, name))}`;
        assert.equal(Number(await cgroupFile(node, path, "memory.limit_in_bytes", "memory.max")), 48 << 20, name);
        assert.match(await cgroupFile(node, path, "cpu.cfs_quota_us", "cpu.max"), /^20000\b/, name);
      }
      await scene.remove("resized");
    }),
    check("a pod with an overhead is resized in place", async () => {
      const runtimeClassName = `${scene.namespace}-overhead`;
      await scene.cluster.kubeConfig.makeApiClient(NodeV1Api).createRuntimeClass({
        body: {
          metadata: { name: runtimeClassName },
          handler: scene.runtimeClass ?? "native",
          overhead: { podFixed: { cpu: "10m", memory: "16Mi" } },
        },
      });
      const resources = (cpu: string) => ({ requests: { cpu, memory: "32Mi" } });
      await scene.create("heavy", {
        runtimeClassName,
        containers: [shell("main", idle, { resources: resources("100m") })],
      });
      await scene.ready("heavy");
      await resize(scene, "heavy", { main: resources("200m") });
      await scene.when("heavy", "resized", (found) =>
        statusOf(found, "main")?.resources?.requests?.cpu === "200m" ? true : undefined,
      );
      await scene.remove("heavy");
    }),
  ]);
}

async function resize(
  scene: Scene,
  name: string,
  wanted: Readonly<Record<string, V1ResourceRequirements>>,
): Promise<void> {
  const { core } = scene.cluster;
  const body = await core.readNamespacedPod({ namespace: scene.namespace, name });
  for (const container of body.spec?.containers ?? []) {
    const resources = wanted[container.name];
    if (resources !== undefined) container.resources = resources;
  }
  await core.replaceNamespacedPodResize({ namespace: scene.namespace, name, body });
}
