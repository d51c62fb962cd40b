// Cleans up after a pod without a monitor: processes, mounts, cgroups, its directory.

import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { mountsBelow } from "../native/index.ts";
import { clearCgroup } from "./cgroups.ts";
import { type Environment, limits } from "./environment.ts";

export interface Remains {
  readonly podDirectory: string;
  /** Where its network namespace is pinned; empty if it has none or that is unknown. */
  readonly netnsPath: string;
  readonly cgroup: string;
  /** The cgroup is a systemd scope. */
  readonly isScope: boolean;
  /** False when the cgroup is the kubelet's: then only the containers' cgroups below it are removed. */
  readonly ownsCgroup: boolean;
  readonly containerIds: readonly string[];
  /** 0 when unknown: then all processes are searched for a monitor. */
  readonly monitorPid: number;
}

/** Kills the monitor and every process of the pod, and removes its cgroups. Namespace pins stay. */
export async function killProcesses(env: Environment, remains: Remains): Promise<void> {
  await env.monitors.kill(remains.podDirectory, remains.monitorPid);
  await clearCgroups(env, remains);
}

/** Removes the pod's cgroups and kills the processes in them. */
export async function clearCgroups(env: Environment, remains: Remains): Promise<void> {
  const cgroups = remains.ownsCgroup ? [remains.cgroup] : remains.containerIds.map((id) => `${remains.cgroup}/${id}`);
  await Promise.all(cgroups.map((cgroup) => clearCgroup(env.cgroups, cgroup, limits.shutdown, remains.isScope)));
}

/** Kills the processes and unmounts everything; the pod directory itself stays. */
export async function clearRemains(env: Environment, remains: Remains): Promise<void> {
  await killProcesses(env, remains);
  for (const mount of await mountsBelow(remains.podDirectory)) await env.host.unmount(mount);
  if (remains.netnsPath === "") return;
  await env.host.unmount(remains.netnsPath);
  await rm(remains.netnsPath, { force: true });
}

/** Names of all pod directories on disk. */
export async function podDirectories(runDirectory: string): Promise<string[]> {
  return await readdir(join(runDirectory, "pods")).catch(() => []);
}
