// Keelson is killed, stopped and upgraded, and the kubelet is killed, with 50 pods running: no container is restarted,
// and no field of the pods' status changes.

import assert from "node:assert/strict";
import { cp, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { V1Pod } from "@kubernetes/client-node";
import { idle, type Scene, shell } from "./scene.ts";
import { deploy, readyPods } from "./workloads.ts";

const count = 50;
/** More than twice the kubelets' syncFrequency. */
const quietMs = 15_000;
const project = join(import.meta.dirname, "../../..");

export async function restarts(scene: Scene): Promise<void> {
  const { node, say } = scene;
  const { daemon } = node;
  await deploy(scene, "fifty", count, {
    nodeSelector: { "kubernetes.io/hostname": node.name },
    containers: [
      shell("probed", idle, { readinessProbe: { exec: { command: ["true"] }, periodSeconds: 2, timeoutSeconds: 5 } }),
      shell("counting", "n=0; while true; do echo count $n; n=$((n + 1)); sleep 1; done"),
    ],
  });
  await scene.check(
    `${count} pods of two containers are ready`,
    async () => void (await readyPods(scene, "fifty", count)),
  );
  const upgraded = await anotherInstallation(join(scene.cluster.directory, "upgrade"));
  /** Runs a pod, which shows that the kubelet works with the runtime and has synced all of its pods. */
  const synced = async (): Promise<void> => {
    await scene.create("synced", { containers: [shell("main", idle)] });
    await scene.ready("synced");
    await scene.remove("synced");
  };
  const unchanged = async (title: string, action: () => Promise<void>): Promise<void> => {
    await scene.check(title, async () => {
      const before = views(await readyPods(scene, "fifty", count));
      const began = performance.now();
      await action();
      say(`answering again after ${Math.round(performance.now() - began)} ms`);
      await synced();
      const wrong = differences(before, views(await readyPods(scene, "fifty", count)));
      assert.equal(wrong.length, 0, `${wrong.length} pods differ: ${wrong[0]}`);
    });
  };
  // On cgroup v1, a pod's status gets its cgroup's limits only with a later sync.
  await scene.check("the kubelet has synced the new pods twice without a change", async () => {
    let before = "";
    for (let changed = performance.now(); performance.now() - changed < quietMs; await synced()) {
      const now = JSON.stringify([...views(await readyPods(scene, "fifty", count))]);
      if (now !== before) changed = performance.now();
      before = now;
    }
  });
  await unchanged("kill -9 of Keelson", async () => {
    await daemon.kill();
    await daemon.start();
  });
  await unchanged("Keelson stopped and restarted", async () => {
    await daemon.stop();
    await daemon.start();
  });
  await unchanged("Keelson upgraded to another version", async () => {
    await daemon.stop();
    daemon.upgradeTo(join(upgraded, "cri/keelson"));
    await daemon.start();
    assert.match(daemon.keelson("version"), /keelson/i);
  });
  await unchanged("kill -9 of the kubelet", async () => {
    await node.kubelet.kill();
    await node.restartKubelet();
  });
  await unchanged("kill -9 of both at once", async () => {
    await Promise.all([node.kubelet.kill(), daemon.kill()]);
    await daemon.start();
    await node.restartKubelet();
  });
  await scene.cluster.apps.deleteNamespacedDeployment({ namespace: scene.namespace, name: "fifty" });
  await scene.check(`all ${count} are removed`, async () => void (await readyPods(scene, "fifty", 0)));
}

/** Each pod's complete status, and its resource version, which changes with every write. */
function views(pods: readonly V1Pod[]): ReadonlyMap<string, string> {
  const entries = pods.map(({ metadata, status }): [string, string] => [
    metadata?.name ?? "",
    JSON.stringify({ version: metadata?.resourceVersion, status }),
  ]);
  return new Map(entries.toSorted());
}

function differences(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): string[] {
  const names = [...new Set([...before.keys(), ...after.keys()])];
  return names
    .filter((name) => before.get(name) !== after.get(name))
    .map((name) => `${name} was\n${before.get(name)}\nand is now\n${after.get(name)}`);
}

/** The same sources installed with another version, as by an upgrade. */
async function anotherInstallation(directory: string): Promise<string> {
  await mkdir(directory, { recursive: true });
  for (const name of ["cri", "pod", "image", "cni", "native"])
    await cp(join(project, name), join(directory, name), {
      recursive: true,
      // Of the build output, only the programs.
      filter: (path) => !/\/build\/(objects|small|sanitize|separate)$/.test(path),
    });
  await symlink(join(project, "node_modules"), join(directory, "node_modules"));
  const description: Record<string, unknown> = JSON.parse(await readFile(join(project, "package.json"), "utf8"));
  await writeFile(join(directory, "package.json"), JSON.stringify({ ...description, version: "99.0.0" }));
  return directory;
}
