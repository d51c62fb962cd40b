// Two nodes, each with Keelson and a kubelet: their pods reach each other, and move from one node to the other.

import assert from "node:assert/strict";
import type { V1Pod } from "@kubernetes/client-node";
import { tunnelPods } from "../../fixtures/kubernetes/network.ts";
import type { Node } from "../../fixtures/kubernetes/node.ts";
import { type Scene, web } from "./scene.ts";
import { deploy, readyPods } from "./workloads.ts";

const server = web("web");

export async function twoNodes(scene: Scene): Promise<void> {
  const { check, cluster, namespace } = scene;
  const [first, second] = cluster.nodes;
  if (first === undefined || second === undefined) throw new Error("there are no two nodes");
  for (const node of [first, second])
    await scene.create(`on-${node.name}`, {
      nodeSelector: { "kubernetes.io/hostname": node.name },
      containers: [server],
    });
  const [here, there] = [await scene.ready(`on-${first.name}`), await scene.ready(`on-${second.name}`)];
  /** Each pod asks the other for the client address that it sees, which must not be translated. */
  const reachEachOther = async (family: 0 | 1): Promise<void> => {
    const ask = async (from: V1Pod, to: V1Pod): Promise<void> => {
      const [own = "", other = ""] = [from, to].map((pod) => pod.status?.podIPs?.[family]?.ip);
      const script = `printf 'GET /clientip HTTP/1.0\\r\\n\\r\\n' | nc -w 5 ${other} 8080 | tail -n 1`;
      const { stdout } = await scene.exec(from.metadata?.name ?? "", "web", "sh", "-c", script);
      assert.ok(stdout.includes(own), `${other} was called by ${own} and saw ${stdout}`);
    };
    await ask(here, there);
    await ask(there, here);
  };
  await check("pods on the two nodes reach each other through routes between the hosts", () => reachEachOther(0));
  await check("pods on the two nodes reach each other over IPv6", () => reachEachOther(1));
  await check("pods on the two nodes reach each other over VXLAN", async () => {
    const hosts = [];
    for (const node of [first, second]) {
      const { spec } = await cluster.core.readNode({ name: node.name });
      hosts.push({ host: node.host, podCidr: spec?.podCIDR ?? "" });
    }
    await tunnelPods(hosts);
    await reachEachOther(0);
    const sent = await packetsSent(first);
    assert.ok(sent > 0, "nothing went through the tunnel");
    scene.say(`${sent} packets sent through the tunnel of ${first.name}`);
  });

  await deploy(scene, "moving", 8, { containers: [server], topologySpreadConstraints: spread("moving") });
  await check("a drained node's pods start on the other", async () => {
    const before = await readyPods(scene, "moving", 8);
    const leaving = before.filter(({ spec }) => spec?.nodeName === second.name);
    assert.ok(leaving.length > 0, "no pod was on the second node");
    await cordon(scene, second.name, true);
    await Promise.all(
      leaving.map(({ metadata }) =>
        cluster.core.createNamespacedPodEviction({
          name: metadata?.name ?? "",
          namespace,
          body: { metadata: { name: metadata?.name ?? "", namespace } },
        }),
      ),
    );
    const after = await cluster.pods(namespace, "eight pods on the first node", 90_000, (pods) => {
      const own = pods.filter(({ metadata }) => metadata?.labels?.app === "moving");
      const moved = own.every(({ spec }) => spec?.nodeName === first.name);
      return own.length === 8 && moved ? own : undefined;
    });
    assert.equal(after.length, 8);
    await readyPods(scene, "moving", 8);
    await cordon(scene, second.name, false);
  });
  await cluster.apps.deleteNamespacedDeployment({ namespace, name: "moving" });
}

async function packetsSent(node: Node): Promise<number> {
  const links: readonly { readonly stats64: { readonly tx: { readonly packets: number } } }[] = JSON.parse(
    await node.run("ip", "-j", "-s", "link", "show", "vxlan0"),
  );
  return links[0]?.stats64.tx.packets ?? 0;
}

function spread(app: string) {
  return [
    {
      maxSkew: 1,
      topologyKey: "kubernetes.io/hostname",
      whenUnsatisfiable: "ScheduleAnyway",
      labelSelector: { matchLabels: { app } },
    },
  ];
}

async function cordon({ cluster }: Scene, name: string, unschedulable: boolean): Promise<void> {
  const body = await cluster.core.readNode({ name });
  body.spec = { ...body.spec, unschedulable };
  await cluster.core.replaceNode({ name, body });
}
