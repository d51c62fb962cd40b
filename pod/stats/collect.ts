// ContainerStats, PodSandboxStats, their lists and the metrics: reads cgroups, layers and networks, and combines them.

import { measuredCgroup } from "../cgroup-driver.ts";
import type { Container } from "../container.ts";
import type { Environment } from "../environment.ts";
import type { Sandbox } from "../sandbox.ts";
import type { CgroupReader, CgroupStats } from "./cgroup-reader.ts";
import { fileSystemSize, metricsOfContainers } from "./container-metrics.ts";
import { networksOf } from "./interfaces.ts";
import type { ContainerStats, FileSystemSize, SandboxMetrics, SandboxStats } from "./types.ts";

/** A container that is not running only has its writable layer. */
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

/** Includes the stats of the containers. A pod that is not ready has no stats of its own. */
export async function statsOfSandboxes(
  env: Environment,
  reader: CgroupReader,
  sandboxes: readonly Sandbox[],
): Promise<SandboxStats[]> {
  const containers = sandboxes.flatMap((sandbox) => [...sandbox.containers.values()]);
  const [networks, figures, ofContainers] = await Promise.all([
    networksOf(env, sandboxes),
    reader.read("pods", sandboxes.map(measuredCgroup)),
    statsOfContainers(env, reader, containers),
  ]);
  const bySandbox = Map.groupBy(ofContainers, ({ container }) => container.sandboxId);
  return sandboxes.map((sandbox, index) => {
    const own = sandbox.ready ? figures[index] : undefined;
    const network = networks[index];
    return {
      sandbox: sandbox.view(),
      ...(own === undefined ? {} : { cpu: own.cpu, memory: own.memory, processCount: own.processCount ?? 0n }),
      ...(own?.ioPressure === undefined ? {} : { ioPressure: own.ioPressure }),
      ...(network === undefined ? {} : { network }),
      containers: bySandbox.get(sandbox.id) ?? [],
    };
  });
}

/** Stats plus additional metrics. */
export async function metricsOfSandboxes(
  env: Environment,
  reader: CgroupReader,
  sandboxes: readonly Sandbox[],
): Promise<SandboxMetrics[]> {
  const all = sandboxes.flatMap((sandbox) => [...sandbox.containers.values()]);
  const [stats, metrics, fileSystem] = await Promise.all([
    statsOfSandboxes(env, reader, sandboxes),
    metricsOfContainers(env, all),
    fileSystemOfLayers(env),
  ]);
  const containers = new Map(
    all.flatMap(({ id }, index) => (metrics[index] === undefined ? [] : [[id, metrics[index]]])),
  );
  return stats.map((one) => ({ stats: one, containers, fileSystem }));
}

async function fileSystemOfLayers({ host, images }: Environment): Promise<FileSystemSize> {
  const { containers } = await images.fileSystemUse();
  return await fileSystemSize(host, containers.mountpoint);
}

function measured(figures: CgroupStats | undefined): Partial<ContainerStats> {
  if (figures === undefined) return {};
  const { cpu, memory, swap, ioPressure } = figures;
  return { cpu, memory, ...(swap === undefined ? {} : { swap }), ...(ioPressure === undefined ? {} : { ioPressure }) };
}
