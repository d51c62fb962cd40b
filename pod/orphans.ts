// Orphaned resources in our directories that have no record: left by requests that a daemon died in the middle of.

import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { asString, type JsonObject, member, parseObject } from "../native/index.ts";
import { type Environment, limits } from "./environment.ts";
import type { ContainerRecord } from "./records.ts";
import { clearRemains, podDirectories, type Remains } from "./remains.ts";
import type { Sandbox } from "./sandbox.ts";

export interface Orphans {
  readonly podDirectories: readonly string[];
  readonly bundles: readonly string[];
  /** Container ids of orphaned writable layers. */
  readonly snapshots: readonly string[];
  /** Ids of container records without a sandbox. */
  readonly records: readonly string[];
}

/** Only searches, before requests are served, so that no resource of a new request is taken for an orphan. */
export async function findOrphans(
  env: Environment,
  sandboxes: ReadonlyMap<string, Sandbox>,
  orphanRecords: readonly ContainerRecord[],
  leftAlone: ReadonlyMap<string, unknown>,
): Promise<Orphans> {
  const containers = new Set([...sandboxes.values()].flatMap((sandbox) => [...sandbox.containers.keys()]));
  const isOrphaned = (id: string) => !containers.has(id) && !leftAlone.has(id);
  // If a record cannot be read, the owners of these layers and container records are unknown.
  const snapshots = leftAlone.size > 0 ? [] : env.images.snapshots().filter(isOrphaned);
  const names = await podDirectories(env.runDirectory);
  const bundles = await Promise.all([...sandboxes.values()].map(bundlesOf));
  return {
    podDirectories: names
      .filter((name) => !sandboxes.has(name) && !leftAlone.has(name))
      .map((name) => join(env.runDirectory, "pods", name)),
    bundles: bundles.flat().filter((bundle) => isOrphaned(basename(bundle))),
    snapshots,
    records: leftAlone.size > 0 ? [] : orphanRecords.map(({ id }) => id),
  };
}

async function bundlesOf(sandbox: Sandbox): Promise<string[]> {
  const directory = join(sandbox.podDirectory, "containers");
  const names = await readdir(directory).catch(() => []);
  return names.map((name) => join(directory, name));
}

/** Removes a pod directory without a record. The network is first, while its plugins still find the namespace. */
export async function removeOrphanedPod(env: Environment, podDirectory: string): Promise<void> {
  env.log("warn", `pod directory ${podDirectory} has no record and is removed`);
  const id = basename(podDirectory);
  const sandbox = parseObject(await readFile(join(podDirectory, "sandbox.json"), "utf8").catch(() => "")) ?? {};
  const cgroup = cgroupIn(sandbox) ?? { cgroup: `${env.cgroupRoot}/${id}`, ownsCgroup: true, isScope: false };
  const netnsPath = asString(member(sandbox, "netns")) ?? "";
  const containerIds = await readdir(join(podDirectory, "containers")).catch(() => []);
  await env.network.detach(id);
  await env.monitors
    .connect(podDirectory)
    .shutdown(0, { timeoutMs: limits.shutdown })
    .catch(() => undefined);
  await clearRemains(env, { podDirectory, netnsPath, ...cgroup, containerIds, monitorPid: 0 });
  await env.host.removeTree(podDirectory);
}

/** The cgroup from the monitor's sandbox.json (PROTOCOL.md); undefined when it is missing there. */
function cgroupIn(sandbox: JsonObject): Pick<Remains, "cgroup" | "ownsCgroup" | "isScope"> | undefined {
  const scope = asString(member(sandbox, "scope"));
  if (scope !== undefined) return { cgroup: scope, ownsCgroup: true, isScope: true };
  const cgroup = asString(member(sandbox, "cgroup"));
  const own = member(sandbox, "own_cgroup");
  if (cgroup?.startsWith("/") !== true || own === undefined) return undefined;
  return { cgroup, ownsCgroup: own === true, isScope: false };
}
