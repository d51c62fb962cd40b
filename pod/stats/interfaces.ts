// Network interface statistics of pods. Source: proc_pid_net(5), net/dev.

import type { Container } from "../container.ts";
import type { Environment } from "../environment.ts";
import type { Sandbox } from "../sandbox.ts";
import { inBatches } from "./batches.ts";
import type { InterfaceStats, NetworkStats } from "./types.ts";

const netDevLimit = 64 << 10;

type Subject = Pick<Sandbox, "ready" | "ownNetwork" | "netnsPath"> & {
  readonly containers: ReadonlyMap<string, Pick<Container, "phase">>;
};

/**
 * Returns one result per sandbox, in order: read in batches from /proc/<pid>/net/dev of a running container, or from
 * the network namespace if no container is running. Undefined for a pod with host networking or without an interface.
 */
export async function networksOf(
  env: Pick<Environment, "host" | "clock">,
  sandboxes: readonly Subject[],
): Promise<(NetworkStats | undefined)[]> {
  const paths = sandboxes.map((sandbox) =>
    sandbox.ownNetwork ? `/proc/${runningPid(sandbox) ?? 0}/net/dev` : "/proc/0/net/dev",
  );
  const contents = await inBatches(paths, (some) => env.host.readFiles(some, netDevLimit));
  const texts = await Promise.all(
    sandboxes.map(async ({ ready, ownNetwork, netnsPath }, index) => {
      const content = contents[index]?.toString("latin1");
      if (content !== undefined || !ready || !ownNetwork) return content;
      return await env.host.readInterfaces(netnsPath).catch(() => undefined);
    }),
  );
  const timestamp = env.clock();
  return texts.map((text) => (text === undefined ? undefined : networkStats(parseInterfaces(text), timestamp)));
}

function runningPid(sandbox: Subject): number | undefined {
  for (const { phase } of sandbox.containers.values()) if (phase.state === "running") return phase.pid;
  return undefined;
}

/**
 * The other interfaces include loopback: CRI expects all interfaces except the default one there. Undefined without a
 * default interface, which kubelets read unchecked: a container that may administer its network could delete its only
 * interface, and crash the node's kubelet with that.
 */
function networkStats(all: readonly InterfaceStats[], timestamp: bigint): NetworkStats | undefined {
  const primary = all.find(({ name }) => name === "eth0") ?? all.find(({ name }) => name !== "lo");
  if (primary === undefined) return undefined;
  return { timestamp, defaultInterface: primary, interfaces: all.filter((one) => one !== primary) };
}

/** /proc/PID/net/dev: two header lines, then "name: 8 receive columns, 8 transmit columns". */
export function parseInterfaces(netDev: string): InterfaceStats[] {
  return netDev
    .split("\n")
    .slice(2)
    .flatMap((line) => {
      const [name, columns] = line.split(":");
      const counts = (columns ?? "").trim().split(/\s+/);
      if (name === undefined || counts.length < 16) return [];
      const at = (index: number) => BigInt(counts[index] ?? "0");
      const [rxBytes, rxPackets, rxErrors, rxDropped] = [at(0), at(1), at(2), at(3)];
      const [txBytes, txPackets, txErrors, txDropped] = [at(8), at(9), at(10), at(11)];
      return [{ name: name.trim(), rxBytes, rxPackets, rxErrors, rxDropped, txBytes, txPackets, txErrors, txDropped }];
    });
}
