// The test run itself, started by main.ts in its own namespaces. Arguments: a working directory, the directory of the
// Kubernetes binaries, the OCI runtimes by handler, the file for its counts, and the options.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { NodeV1Api } from "@kubernetes/client-node";
import { connectCri } from "../../fixtures/client.ts";
import { type Cluster, startCluster } from "../../fixtures/kubernetes/cluster.ts";
import { separateCgroupMounts } from "../../fixtures/kubernetes/sealed.ts";
import { seen } from "../../fixtures/kubernetes/watching.ts";
import { createSteps, until } from "../../fixtures/steps.ts";
import { endings } from "./endings.ts";
import { ephemeral } from "./ephemeral.ts";
import { evented } from "./evented.ts";
import { diskPressure, evictions } from "./evictions.ts";
import { type Archives, buildImages, loadImages } from "./images.ts";
import { initContainers } from "./init-containers.ts";
import { kubectl } from "./kubectl.ts";
import { manifests } from "./manifests.ts";
import { probes } from "./probes.ts";
import { resources } from "./resources.ts";
import { restarts } from "./restarts.ts";
import { createScene, type Scene } from "./scene.ts";
import { services } from "./services.ts";
import { featureGates, settings } from "./settings.ts";
import { staticPods } from "./static-pods.ts";
import { stats } from "./stats.ts";
import { streams } from "./streams.ts";
import { twoNodes } from "./two-nodes.ts";
import { volumes } from "./volumes.ts";
import { workloads } from "./workloads.ts";

type Part = (scene: Scene) => Promise<void>;

/** Parts about single pods, run in parallel, each in its own namespace; with every handler. */
const ofPods: Readonly<Record<string, Part>> = {
  "init-containers": initContainers,
  probes,
  endings,
  resources,
  volumes,
  ephemeral,
  stats,
  streams,
};
/** Also in parallel, with the default handler only. */
const ofClusters: Readonly<Record<string, Part>> = {
  "static-pods": staticPods,
  evictions,
  kubectl,
  manifests,
  services,
  workloads,
};
/** Parts that stop, fill or measure a node: run alone. */
const alone = (archives: Archives): Readonly<Record<string, Part>> => ({
  "two-nodes": twoNodes,
  "disk-pressure": diskPressure(archives),
  evented,
  restarts,
});

const [directory = "", programs = "", handlerList = "{}", countsFile = "", ...words] = process.argv.slice(2);
const { values: options } = parseArgs({ args: words, options: { only: { type: "string", multiple: true } } });
const handlers: Readonly<Record<string, string>> = JSON.parse(handlerList);
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const { step, thrown, counts } = createSteps(say);
const limitMs = 30 * 60_000;
/** Ends the run early, so that it still prints its results. */
const interrupted = new AbortController();
process.once("SIGTERM", () => interrupted.abort(new Error("interrupted by a signal")));
setTimeout(() => interrupted.abort(new Error(`not done within ${limitMs / 60_000} minutes`)), limitMs).unref();

const over = Promise.withResolvers<never>();
interrupted.signal.addEventListener("abort", () => over.reject(interrupted.signal.reason));
await Promise.race([walk(), over.promise]).catch(thrown);
await writeFile(countsFile, JSON.stringify(counts()));
process.exit(0);

async function walk(): Promise<void> {
  const names = [ofPods, ofClusters, alone([])].flatMap((parts) => Object.keys(parts));
  const unknown = options.only?.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new Error(`unknown part ${unknown}; choose from ${names.join(", ")}`);
  await separateCgroupMounts(directory);
  await mkdir(join(directory, "images"));
  const archives = buildImages(join(directory, "images"), programs);
  const cluster = await step("the control plane starts", () => startCluster(directory, programs, featureGates));
  for (const name of ["node-1", "node-2"]) {
    await step(`${name} joins`, () => cluster.addNode({ handlers, kubelet: settings }));
  }
  const built = await archives;
  for (const node of cluster.nodes) loadImages(node, built);
  for (const handler of Object.keys(handlers)) await runtimeClass(cluster, handler);

  await sideBySide(cluster, ofPods, undefined);
  await sideBySide(cluster, ofClusters, undefined);
  for (const handler of Object.keys(handlers)) await sideBySide(cluster, ofPods, handler);
  for (const [name, part] of Object.entries(alone(built))) await run(cluster, name, part, undefined);
  await step("nothing is left of the pods", () => nothingLeft(cluster));
  await step("the cluster stops", () => cluster.stop());
}

async function sideBySide(
  cluster: Cluster,
  parts: Readonly<Record<string, Part>>,
  handler: string | undefined,
): Promise<void> {
  await Promise.all(Object.entries(parts).map(([name, part]) => run(cluster, name, part, handler)));
}

async function run(cluster: Cluster, name: string, part: Part, handler: string | undefined): Promise<void> {
  if (options.only !== undefined && !options.only.includes(name)) return;
  const title = handler === undefined ? name : `${name} under ${handler}`;
  const namespace = handler === undefined ? name : `${name}-${handler}`;
  const check: Scene["check"] = (what, action) => step(`${title}: ${what}`, action).catch(() => undefined);
  const [node] = cluster.nodes;
  if (node === undefined) throw new Error("the cluster has no node");
  try {
    await createNamespace(cluster, namespace);
    await part(
      createScene(cluster, node, namespace, handler, { check, say: (line) => say(`      ${title}: ${line}`) }),
    );
  } catch (error) {
    thrown(error);
  } finally {
    await clear(cluster, namespace);
  }
}

async function clear(cluster: Cluster, namespace: string): Promise<void> {
  await cluster.apps.deleteCollectionNamespacedDeployment({ namespace });
  await cluster.core.deleteCollectionNamespacedPod({ namespace, gracePeriodSeconds: 1 });
}

async function createNamespace(cluster: Cluster, name: string): Promise<void> {
  const { core, kubeConfig } = cluster;
  await core.createNamespace({ body: { metadata: { name } } });
  const path = `/api/v1/namespaces/${name}/serviceaccounts`;
  const list = () => core.listNamespacedServiceAccount({ namespace: name });
  // Pods cannot be created before that.
  await seen(kubeConfig, { path, list }, `${name} has its service account`, 30_000, ([first]) => first);
}

async function runtimeClass(cluster: Cluster, handler: string): Promise<void> {
  await cluster.kubeConfig
    .makeApiClient(NodeV1Api)
    .createRuntimeClass({ body: { metadata: { name: handler }, handler } });
}

async function nothingLeft(cluster: Cluster): Promise<void> {
  for (const { metadata } of (await cluster.core.listNamespace()).items) await clear(cluster, metadata?.name ?? "");
  for (const node of cluster.nodes) {
    const client = connectCri(node.daemon.socket);
    try {
      await until(`no sandbox on ${node.name}`, 90_000, async () => {
        const { items } = await client.listPodSandbox({});
        return items.length === 0 ? true : undefined;
      });
    } finally {
      client.close();
    }
  }
}
