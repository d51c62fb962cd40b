// The measurement itself, started by main.ts in its own namespaces. Arguments: a working directory, the directories of
// the Kubernetes and containerd binaries, runc, and the options.
//
// One node for each runtime, both in one cluster, and pods on one node at a time. The second node also starts with
// Keelson, until its kubelet is restarted with containerd, so that nodes, kubelets and networks are identical.

import { loadavg, release } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { V1Node } from "@kubernetes/client-node";
import { buildBusyboxImage } from "../../fixtures/busybox-image.ts";
import { type Cluster, startCluster } from "../../fixtures/kubernetes/cluster.ts";
import { importImage, startContainerd } from "../../fixtures/kubernetes/containerd.ts";
import type { KubeletSettings, Node } from "../../fixtures/kubernetes/node.ts";
import { seen } from "../../fixtures/kubernetes/watching.ts";
import { idle, isReady } from "../cluster/scene.ts";
import { placeRuntime, type Usage, usage, used } from "./usage.ts";

const [directory = "", kubernetes = "", containerdPrograms = "", runc = "", ...words] = process.argv.slice(2);
const { values: options } = parseArgs({
  args: words,
  options: {
    pods: { type: "string", default: "50" },
    seconds: { type: "string", default: "120" },
  },
});
const [podCount, seconds] = [Number(options.pods), Number(options.seconds)];
const settleMs = 15_000;
const image = "bench.test/busybox:1";
const pauseImage = "bench.test/pause:1";
const namespace = "default";
/** For both kubelets: ordinary probes, and stats from the kubelet's default source. */
const settings: KubeletSettings = { featureGates: { PodAndContainerStatsFromCRI: false } };
/** If the two numbers of probes differ by more than this share, their costs are not compared. */
const tolerated = 0.1;

interface Subject {
  readonly name: string;
  readonly node: Node;
  readonly daemonPid: number;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);
process.once("SIGTERM", () => process.exit(1));

const cluster = await startCluster(directory, kubernetes);
const layout = await buildBusyboxImage(join(directory, "busybox"), image);
const keelson = await keelsonNode();
const containerd = await containerdNode();
say(`${podCount} pods, an exec probe in each every second, ${seconds} s; ${await versions()}`);
const results = [];
for (const subject of [keelson, containerd]) results.push(await measure(subject));
const isComparable = report(results);
await cluster.stop();
process.exit(isComparable ? 0 : 1);

async function keelsonNode(): Promise<Subject> {
  const node = await cluster.addNode({ kubelet: settings });
  await placeRuntime(node, node.daemon.pid);
  node.daemon.keelson("image", "load", layout);
  return { name: "keelson", node, daemonPid: node.daemon.pid };
}

async function containerdNode(): Promise<Subject> {
  const node = await cluster.addNode({ kubelet: settings });
  const pause = await buildBusyboxImage(join(directory, "pause"), pauseImage, { Cmd: ["sleep", "infinity"] });
  const runtime = await startContainerd(node, containerdPrograms, runc, pauseImage);
  for (const each of [layout, pause]) await importImage(runtime, containerdPrograms, each);
  await placeRuntime(node, runtime.service.pid);
  await node.restartKubelet({ ...settings, containerRuntimeEndpoint: `unix://${runtime.socket}` });
  await runtimeOf(node, "containerd://");
  await node.daemon.stop();
  return { name: "containerd", node, daemonPid: runtime.service.pid };
}

/** Waits until the node is ready with a runtime of this kind; returns the runtime's version. */
async function runtimeOf(node: Node, scheme: string): Promise<string> {
  const watched = { path: "/api/v1/nodes", list: () => cluster.core.listNode() };
  return await seen<V1Node, string>(cluster.kubeConfig, watched, `${node.name} with ${scheme}`, 60_000, (nodes) => {
    const status = nodes.find(({ metadata }) => metadata?.name === node.name)?.status;
    const isUp = status?.conditions?.some(({ type, status: state }) => type === "Ready" && state === "True") ?? false;
    const version = status?.nodeInfo?.containerRuntimeVersion ?? "";
    return isUp && version.startsWith(scheme) ? version : undefined;
  });
}

async function versions(): Promise<string> {
  const [runcVersion] = (await containerd.node.run(runc, "--version")).split("\n");
  const runtimes = [await runtimeOf(keelson.node, "keelson://"), await runtimeOf(containerd.node, "containerd://")];
  const kubelet = (await containerd.node.run(join(kubernetes, "kubelet"), "--version")).trim();
  return `${[...runtimes, runcVersion, kubelet].join(", ")}, Node ${process.version}, Linux ${release()}`;
}

/** Runs the pods for the duration of the measurement and removes them. */
async function measure({ name, node, daemonPid }: Subject): Promise<Usage> {
  for (let index = 0; index < podCount; index += 1) await createPod(node, `${name}-${index}`);
  await podsBecome(`${podCount} pods on ${name} are ready`, (pods) =>
    pods.length === podCount && pods.every(isReady) ? true : undefined,
  );
  await delay(settleMs);
  const [before, load] = [await usage(cluster, node, daemonPid), loadavg()];
  const ends = () => `${load[0]?.toFixed(1)} at the beginning, ${loadavg()[0]?.toFixed(1)} at the end`;
  await delay(seconds * 1000);
  const result = used(before, await usage(cluster, node, daemonPid));
  const { successful, failed } = result.probes;
  const each = (total(result) / successful).toFixed(2);
  say(`${name}: ${successful} probes succeeded, ${failed} failed, ${each} ms of CPU each; load ${ends()}`);
  await cluster.core.deleteCollectionNamespacedPod({ namespace, gracePeriodSeconds: 1 });
  await podsBecome(`no pods on ${name}`, (pods) => (pods.length === 0 ? true : undefined));
  return result;
}

async function createPod(node: Node, name: string): Promise<void> {
  const livenessProbe = { exec: { command: ["true"] }, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 10 };
  await cluster.core.createNamespacedPod({
    namespace,
    body: {
      metadata: { name },
      spec: {
        nodeSelector: { "kubernetes.io/hostname": node.name },
        terminationGracePeriodSeconds: 1,
        containers: [{ name: "main", image, command: ["sh", "-c", idle], livenessProbe }],
      },
    },
  });
}

async function podsBecome(what: string, holds: Parameters<Cluster["pods"]>[3]): Promise<void> {
  try {
    await cluster.pods(namespace, what, 180_000, holds);
  } catch (error) {
    const { items } = await cluster.core.listNamespacedEvent({ namespace, fieldSelector: "type=Warning" });
    const reasons = new Set(items.map(({ reason, message }) => `${reason}: ${message}`));
    throw new Error(`condition not reached: ${what}; ${[...reasons].slice(0, 5).join("\n")}`, { cause: error });
  }
}

/** Returns false if the results cannot be compared. */
function report([ours, theirs]: readonly Usage[]): boolean {
  if (ours === undefined || theirs === undefined) return false;
  const row = (title: string, value: (of: Usage) => string) =>
    say(`${title.padEnd(52)}${value(ours).padStart(12)}${value(theirs).padStart(12)}`);
  const each = (milliseconds: (of: Usage) => number) => (of: Usage) =>
    (milliseconds(of) / of.probes.successful).toFixed(2);
  say(`${"".padEnd(52)}${"keelson".padStart(12)}${"containerd".padStart(12)}`);
  row("probes that succeeded", ({ probes }) => String(probes.successful));
  row("probes that failed", ({ probes }) => String(probes.failed));
  row("CPU for each probe, ms", each(total));
  row(
    "  the daemon",
    each(({ daemon }) => daemon),
  );
  row(
    "  monitors or shims, and other processes outside the pods' cgroups",
    each(({ daemon, runtime }) => runtime - daemon),
  );
  row(
    "  pods' cgroups",
    each(({ pods }) => pods),
  );
  const difference = Math.abs(1 - ours.probes.successful / theirs.probes.successful);
  if (difference > tolerated || Number.isNaN(difference)) {
    say(`no ratio: the numbers of probes differ by ${(difference * 100).toFixed(0)} %`);
    return false;
  }
  say(`ratio of CPU: ${(total(ours) / total(theirs)).toFixed(3)}`);
  return true;
}

function total({ runtime, pods }: Usage): number {
  return runtime + pods;
}
