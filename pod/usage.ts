// ContainerStats, PodSandboxStats, their lists and the metrics: which cgroups to read, and what becomes of the figures.

import type { Container } from "./container.ts";
import type { Environment } from "./environment.ts";
import { fileSystemSize, metricsOfContainers } from "./metrics.ts";
import type { Sandbox } from "./sandbox.ts";
import { type CgroupReader, type CgroupStats, parseInterfaces } from "./stats.ts";
import type { ContainerStats, InterfaceStats, SandboxMetrics, SandboxStats } from "./stats-types.ts";

const netDevLimit = 64 << 10;

/** All files of all containers are read in one batch. A container that does not run has its writable layer only. */
export async function statsOfContainers(
  env: Environment,
  reader: CgroupReader,
  containers: readonly Container[],
): Promise<ContainerStats[]> {
  const [figures, layers] = await Promise.all([
    reader.read(
      "containers",
      containers.map((container) => container.cgroup),
    ),
    Promise.all(containers.map(async ({ id }) => await env.images.snapshotUse(id).catch(() => undefined))),
  ]);
  return containers.map((container, index) => {
    const writableLayer = layers[index];
    return {
      container: container.view(),
      ...(container.phase.state === "running" ? measured(figures[index]) : {}),
      ...(writableLayer === undefined ? {} : { writableLayer }),
    };
  });
}

export async function statsOfSandboxes(
  env: Environment,
  reader: CgroupReader,
  sandboxes: readonly Sandbox[],
): Promise<SandboxStats[]> {
  const containers = sandboxes.flatMap((sandbox) => [...sandbox.containers.values()]);
  const [figures, ofContainers, networks] = await Promise.all([
    reader.read(
      "pods",
      sandboxes.map((sandbox) => sandbox.cgroup),
    ),
    statsOfContainers(env, reader, containers),
    interfacesOf(env, sandboxes),
  ]);
  const bySandbox = Map.groupBy(ofContainers, ({ container }) => container.sandboxId);
  return sandboxes.map((sandbox, index) => {
    const own = sandbox.ready ? figures[index] : undefined;
    const interfaces = networks[index];
    return {
      sandbox: sandbox.view(),
      ...(own === undefined ? {} : { cpu: own.cpu, memory: own.memory, processCount: own.processCount ?? 0n }),
      ...(own?.ioPressure === undefined ? {} : { ioPressure: own.ioPressure }),
      ...(interfaces === undefined ? {} : { network: networkStats(env, interfaces) }),
      containers: bySandbox.get(sandbox.id) ?? [],
    };
  });
}

export async function metricsOfSandboxes(
  env: Environment,
  reader: CgroupReader,
  sandboxes: readonly Sandbox[],
): Promise<SandboxMetrics[]> {
  const all = sandboxes.flatMap((sandbox) => [...sandbox.containers.values()]);
  const [stats, metrics, fileSystem] = await Promise.all([
    statsOfSandboxes(env, reader, sandboxes),
    metricsOfContainers(env, all),
    fileSystemSize(env),
  ]);
  const containers = new Map(
    all.flatMap(({ id }, index) => (metrics[index] === undefined ? [] : [[id, metrics[index]]])),
  );
  return stats.map((one) => ({ stats: one, containers, fileSystem }));
}

function measured(figures: CgroupStats | undefined): Partial<ContainerStats> {
  if (figures === undefined) return {};
  const { cpu, memory, swap, ioPressure } = figures;
  return { cpu, memory, ...(swap === undefined ? {} : { swap }), ...(ioPressure === undefined ? {} : { ioPressure }) };
}

/**
 * A pod's interfaces as one of its own processes has them in /proc, which takes all pods one batch, or where none runs as
 * its namespace has them; undefined for a pod on the host's network.
 */
async function interfacesOf(
  env: Environment,
  sandboxes: readonly Sandbox[],
): Promise<(InterfaceStats[] | undefined)[]> {
  const paths = sandboxes.map((sandbox) =>
    sandbox.ownNetwork ? `/proc/${runningPid(sandbox) ?? 0}/net/dev` : "/proc/0/net/dev",
  );
  const contents = await env.host.readFiles(paths, netDevLimit);
  return await Promise.all(
    sandboxes.map(async ({ ready, ownNetwork, netnsPath }, index) => {
      const content = contents[index]?.toString("latin1");
      if (content !== undefined) return parseInterfaces(content);
      if (!ready || !ownNetwork) return undefined;
      return await env.host.readInterfaces(netnsPath).then(parseInterfaces, () => undefined);
    }),
  );
}

function runningPid(sandbox: Sandbox): number | undefined {
  for (const { phase } of sandbox.containers.values()) if (phase.state === "running") return phase.pid;
  return undefined;
}

/** Loopback is among the others: CRI wants all interfaces but the default one there. */
function networkStats(env: Environment, all: readonly InterfaceStats[]): NonNullable<SandboxStats["network"]> {
  const primary = all.find(({ name }) => name === "eth0") ?? all.find(({ name }) => name !== "lo");
  const others = all.filter((one) => one !== primary);
  return {
    timestamp: env.clock(),
    ...(primary === undefined ? {} : { defaultInterface: primary }),
    interfaces: others,
  };
}
