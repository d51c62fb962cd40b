// The CPU time that a runtime has used so far, and the number of probes that were answered to the kubelet.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Cluster } from "../../fixtures/kubernetes/cluster.ts";
import type { Node } from "../../fixtures/kubernetes/node.ts";
import { cgroupHierarchies, makeCgroup } from "../../fixtures/kubernetes/sealed.ts";
import { cgroupFile } from "../cluster/scene.ts";

/** CPU time in milliseconds since each started. */
export interface Usage {
  /** The daemon process. */
  readonly daemon: number;
  /** The daemon and its children outside the pods' cgroups: monitors or shims, runtime binaries, plugins. */
  readonly runtime: number;
  /** The pods' cgroups: containers, probes, and whatever the runtime runs there. */
  readonly pods: number;
  readonly probes: ProbeCounts;
}

interface ProbeCounts {
  readonly successful: number;
  readonly failed: number;
}

const runtimeCgroup = "runtime";

/** Counts the daemon, and everything that it spawns from now on, separately from the kubelet and the machine. */
export async function placeRuntime(node: Node, daemonPid: number): Promise<void> {
  const cgroup = join(node.cgroup, runtimeCgroup);
  await makeCgroup(cgroup);
  for (const hierarchy of await cgroupHierarchies())
    await writeFile(join(hierarchy, cgroup, "cgroup.procs"), String(daemonPid));
}

export async function usage(cluster: Cluster, node: Node, daemonPid: number): Promise<Usage> {
  const [daemon, runtime, pods, probes] = await Promise.all([
    processMilliseconds(daemonPid),
    cgroupMilliseconds(node, runtimeCgroup),
    cgroupMilliseconds(node, "kubepods"),
    probeCounts(cluster, node),
  ]);
  return { daemon, runtime, pods, probes };
}

export function used(before: Usage, after: Usage): Usage {
  return {
    daemon: after.daemon - before.daemon,
    runtime: after.runtime - before.runtime,
    pods: after.pods - before.pods,
    probes: {
      successful: after.probes.successful - before.probes.successful,
      failed: after.probes.failed - before.probes.failed,
    },
  };
}

/** Includes exited processes and removed cgroups. */
async function cgroupMilliseconds(node: Node, path: string): Promise<number> {
  const text = await cgroupFile(node, path, "cpuacct.usage", "cpu.stat");
  const microseconds = /^usage_usec (\d+)$/m.exec(text)?.[1];
  return microseconds === undefined ? Number(text) / 1e6 : Number(microseconds) / 1e3;
}

/** User and system time of all its threads, excluding children; proc(5) stat, in ticks of 10 ms. */
async function processMilliseconds(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** The kubelet's counter of its liveness probes: prober_probe_total. */
async function probeCounts({ core }: Cluster, node: Node): Promise<ProbeCounts> {
  const metrics = await core.connectGetNodeProxyWithPath({ name: node.name, path: "metrics/probes" });
  const counts = { successful: 0, failed: 0 };
  for (const line of metrics.split("\n")) {
    if (!line.startsWith("prober_probe_total{") || !line.includes('probe_type="Liveness"')) continue;
    const count = Number(line.split("} ")[1]);
    if (line.includes('result="successful"')) counts.successful += count;
    else counts.failed += count;
  }
  return counts;
}
