// What is on the host below our directories and on no record: left by requests that a daemon did not live to finish.

import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { type Environment, limits } from "./environment.ts";
import type { ContainerRecord } from "./records.ts";
import { clearRemains, podDirectories } from "./remains.ts";
import type { Sandbox } from "./sandbox.ts";

export interface Strangers {
  readonly podDirectories: readonly string[];
  readonly bundles: readonly string[];
  /** Container ids of writable layers. */
  readonly snapshots: readonly string[];
  /** Container records of no sandbox. */
  readonly records: readonly string[];
}

/** Looks only, so that nothing of a request that comes meanwhile is taken for a stranger's. */
export async function findStrangers(
  env: Environment,
  sandboxes: ReadonlyMap<string, Sandbox>,
  orphans: readonly ContainerRecord[],
  leftAlone: ReadonlySet<string>,
): Promise<Strangers> {
  const containers = new Set([...sandboxes.values()].flatMap((sandbox) => [...sandbox.containers.keys()]));
  const isStrange = (id: string) => !containers.has(id) && !leftAlone.has(id);
  // With a record that cannot be read it is unknown whose containers these are.
  const snapshots = leftAlone.size > 0 ? [] : env.images.snapshots().filter(isStrange);
  const names = await podDirectories(env.runDirectory);
  const bundles = await Promise.all([...sandboxes.values()].map(bundlesOf));
  return {
    podDirectories: names
      .filter((name) => !sandboxes.has(name) && !leftAlone.has(name))
      .map((name) => join(env.runDirectory, "pods", name)),
    bundles: bundles.flat().filter((bundle) => isStrange(basename(bundle))),
    snapshots,
    records: leftAlone.size > 0 ? [] : orphans.map(({ id }) => id),
  };
}

async function bundlesOf(sandbox: Sandbox): Promise<string[]> {
  const directory = join(sandbox.podDirectory, "containers");
  const names = await readdir(directory).catch(() => []);
  return names.map((name) => join(directory, name));
}

/** A pod directory without a record: its network first, while plugins still find the namespace. */
export async function clearStrangePod(env: Environment, podDirectory: string): Promise<void> {
  env.log("warn", `pod directory ${podDirectory} has no record; it is taken down`);
  const cgroup = await cgroupOnDisk(podDirectory);
  const remains = {
    podDirectory,
    cgroup: cgroup?.path ?? `${env.cgroupRoot}/${basename(podDirectory)}`,
    isScope: cgroup?.isScope ?? false,
    ownsCgroup: cgroup?.own ?? true,
    containerIds: await readdir(join(podDirectory, "containers")).catch(() => []),
    monitorPid: 0,
  };
  await env.network.detach(basename(podDirectory));
  await env.monitors
    .connect(podDirectory)
    .shutdown(0, { timeoutMs: limits.shutdown })
    .catch(() => undefined);
  await clearRemains(env, remains);
  await env.host.removeTree(podDirectory);
}

async function cgroupOnDisk(
  podDirectory: string,
): Promise<{ path: string; own: boolean; isScope: boolean } | undefined> {
  try {
    const sandbox: unknown = JSON.parse(await readFile(join(podDirectory, "sandbox.json"), "utf8"));
    if (typeof sandbox !== "object" || sandbox === null) return undefined;
    if ("scope" in sandbox && typeof sandbox.scope === "string") {
      return { path: sandbox.scope, own: true, isScope: true };
    }
    if (!("cgroup" in sandbox) || !("own_cgroup" in sandbox)) return undefined;
    return typeof sandbox.cgroup === "string" && sandbox.cgroup.startsWith("/")
      ? { path: sandbox.cgroup, own: sandbox.own_cgroup === true, isScope: false }
      : undefined;
  } catch {
    return undefined;
  }
}
