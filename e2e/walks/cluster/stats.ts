// The kubelet's resource usage of a pod: the summary API, and the metrics at /metrics/cadvisor, both from CRI.

import assert from "node:assert/strict";
import { connectCri } from "../../fixtures/client.ts";
import { until } from "../../fixtures/steps.ts";
import { idle, type Scene, shell } from "./scene.ts";

interface Summary {
  readonly pods: readonly {
    readonly podRef: { readonly name: string; readonly namespace: string };
    readonly cpu?: { readonly usageCoreNanoSeconds?: number };
    readonly memory?: { readonly workingSetBytes?: number };
    readonly network?: { readonly name?: string; readonly rxBytes?: number };
    readonly process_stats?: { readonly process_count?: number };
    readonly containers?: readonly {
      readonly name: string;
      readonly cpu?: { readonly usageCoreNanoSeconds?: number };
      readonly memory?: { readonly workingSetBytes?: number };
      readonly rootfs?: { readonly usedBytes?: number };
      readonly logs?: { readonly usedBytes?: number };
    }[];
  }[];
}

export async function stats(scene: Scene): Promise<void> {
  const { check, node, namespace } = scene;
  const { core } = scene.cluster;
  await scene.create("used", { containers: [shell("main", `echo begun; head -c 1m /dev/zero > /file; ${idle}`)] });
  const networkAdmin = { securityContext: { capabilities: { add: ["NET_ADMIN"] } } };
  await scene.create("cut-off", { containers: [shell("main", `ip link del eth0; ${idle}`, networkAdmin)] });
  const pod = await scene.ready("used");
  const summaryOf = async (name: string) => {
    const answer: unknown = await core.connectGetNodeProxyWithPath({ name: node.name, path: "stats/summary" });
    // The client library may have parsed the answer already.
    const summary: Summary = JSON.parse(typeof answer === "string" ? answer : JSON.stringify(answer));
    return summary.pods.find(({ podRef }) => podRef.name === name && podRef.namespace === namespace);
  };
  await Promise.all([
    check("its summary has CPU, memory, network, file system and processes", async () => {
      await until("the pod is in the summary", 30_000, async () => {
        const own = await summaryOf("used");
        const [main] = own?.containers ?? [];
        const figures = [
          own?.cpu?.usageCoreNanoSeconds,
          own?.memory?.workingSetBytes,
          own?.process_stats?.process_count,
          main?.cpu?.usageCoreNanoSeconds,
          main?.memory?.workingSetBytes,
          main?.logs?.usedBytes,
        ];
        const isWhole = own?.network?.name === "eth0" && (main?.rootfs?.usedBytes ?? 0) >= 1 << 20;
        return isWhole && figures.every((figure) => (figure ?? 0) > 0) ? true : undefined;
      });
    }),
    // A kubelet dereferences the default interface of a network unchecked: without one it would crash, every ten seconds.
    check("a pod that removed its own interface has a summary without a network", async () => {
      await scene.ready("cut-off");
      await until("the pod is in the summary without a network", 30_000, async () => {
        const own = await summaryOf("cut-off");
        return own !== undefined && own.network === undefined ? true : undefined;
      });
    }),
    check("its metrics have a row for each container", async () => {
      const labels = `container="main"[^}]*namespace="${namespace}"[^}]*pod="used"`;
      const wanted = [
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_fs_usage_bytes",
      ];
      await until("the rows are there", 30_000, async () => {
        const metrics = await core.connectGetNodeProxyWithPath({ name: node.name, path: "metrics/cadvisor" });
        return wanted.every((name) => new RegExp(`^${name}\\{[^}]*${labels}`, "m").test(metrics)) ? true : undefined;
      });
    }),
    check("its runtime handler is the RuntimeClass's", async () => {
      const client = connectCri(node.daemon.socket);
      try {
        const { items } = await client.listPodSandbox({
          filter: { labelSelector: { "io.kubernetes.pod.uid": pod.metadata?.uid ?? "" } },
        });
        assert.deepEqual(
          items.map(({ runtimeHandler }) => runtimeHandler ?? ""),
          [scene.runtimeClass ?? "native"],
        );
      } finally {
        client.close();
      }
    }),
  ]);
  await scene.remove("used");
  await scene.remove("cut-off");
}
