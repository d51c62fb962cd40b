// Taking down what a pod without a monitor leaves: processes, mounts, cgroups, its directory.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { mountsBelow } from "../native/index.ts";
import { clearCgroup } from "./cgroups.ts";
import { type Environment, limits } from "./environment.ts";

export interface Remains {
  readonly podDirectory: string;
  readonly cgroup: string;
  /** The cgroup is a scope of systemd's. */
  readonly isScope: boolean;
  /** False when the cgroup is the kubelet's: then only the containers' below it go. */
  readonly ownsCgroup: boolean;
  readonly containerIds: readonly string[];
  /** 0 when it is not known: a monitor is looked for then. */
  readonly monitorPid: number;
}

/** Ends the monitor and every process of the pod, and removes its cgroups. What pins its namespaces stays. */
export async function killProcesses(env: Environment, remains: Remains): Promise<void> {
  await env.monitors.kill(remains.podDirectory, remains.monitorPid);
  await clearCgroups(env, remains);
}

/** Removes the pod's cgroups with whatever runs in them. */
export async function clearCgroups(env: Environment, remains: Remains): Promise<void> {
  const cgroups = remains.ownsCgroup ? [remains.cgroup] : remains.containerIds.map((id) => `${remains.cgroup}/${id}`);
  await Promise.all(cgroups.map((cgroup) => clearCgroup(env.cgroups, cgroup, limits.shutdown, remains.isScope)));
}

/** Ends the processes and undoes the mounts; the pod directory itself stays. */
export async function clearRemains(env: Environment, remains: Remains): Promise<void> {
  await killProcesses(env, remains);
  for (const mount of await mountsBelow(remains.podDirectory)) await env.host.unmount(mount);
}

/** Pod directories on disk, whoever made them. */
export async function podDirectories(runDirectory: string): Promise<string[]> {
  return await readdir(join(runDirectory, "pods")).catch(() => []);
}
