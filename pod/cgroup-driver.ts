// The cgroup driver: whether pods lie in cgroups of our own making, or in scopes of systemd's. Where a pod's cgroup is, and
// where its monitor belongs: nowhere in the daemon's own unit, which is stopped and limited as one.

import { existsSync } from "node:fs";
import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { writeFile } from "../native/index.ts";
import { type Environment, limits } from "./environment.ts";
import { podErrors } from "./errors.ts";
import type { Sandbox } from "./sandbox.ts";
import { systemBusSocket } from "./systemd/bus.ts";
import { scopeDescription } from "./systemd/scope-owner.ts";
import { sliceCgroup, sliceOfCgroup, sliceOfParent } from "./systemd/slices.ts";
import { monitorsScope } from "./systemd/units.ts";
import type { SandboxConfig, SandboxId } from "./types.ts";

export type CgroupDriver = "cgroupfs" | "systemd";

/** sd_booted(3): there while systemd is PID 1. */
const bootedBySystemd = "/run/systemd/system";

export async function isBootedBySystemd(): Promise<boolean> {
  return await stat(bootedBySystemd).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** `auto` is systemd wherever it runs, as two managers of one tree get in each other's way. */
export async function chooseCgroupDriver(configured: CgroupDriver | "auto"): Promise<CgroupDriver> {
  if (configured === "cgroupfs") return configured;
  const missing = !(await isBootedBySystemd())
    ? "systemd is not PID 1 here"
    : !existsSync(systemBusSocket)
      ? `there is no ${systemBusSocket}`
      : undefined;
  if (missing === undefined) return "systemd";
  if (configured === "systemd") throw podErrors.systemdMissing({ reason: missing });
  return "cgroupfs";
}

/** The new pod's cgroup, in cgroupfs form. Throws for a parent in the other driver's form. */
export function podCgroup(
  { cgroupDriver, cgroupRoot }: Pick<Environment, "cgroupDriver" | "cgroupRoot">,
  id: SandboxId,
  { cgroupParent, metadata }: Pick<SandboxConfig, "cgroupParent" | "metadata">,
): string {
  const refuse = (wanted: string) =>
    podErrors.cgroupParent({ parent: cgroupParent, pod: metadata.name, driver: cgroupDriver, wanted });
  if (cgroupDriver === "systemd") {
    const slice = cgroupParent === "" ? sliceOfCgroup(cgroupRoot) : sliceOfParent(cgroupParent);
    const cgroup = slice === undefined ? undefined : sliceCgroup(slice);
    if (cgroup === undefined) throw refuse("a slice, such as kubepods-besteffort.slice");
    return `${cgroup}/${scopeName(id)}`;
  }
  if (cgroupParent === "") return `${cgroupRoot}/${id}`;
  if (!cgroupParent.startsWith("/") || sliceOfParent(cgroupParent) !== undefined) {
    throw refuse("an absolute path, such as /kubepods/besteffort, and no slice");
  }
  return cgroupParent;
}

/** True for a pod that systemd has a scope of: its cgroup is there once its monitor is in it. */
export function isScoped({ id, cgroup }: Pick<Sandbox, "id" | "cgroup">): boolean {
  return cgroup.endsWith(`/${scopeName(id)}`);
}

function scopeName(id: SandboxId): string {
  return `keelson-${id}.scope`;
}

/** The processes of a pod that are in no container: its monitor, and the init of its own PID namespace. */
export interface MonitorProcesses {
  readonly pid: number;
  readonly initPid?: number;
}

/**
 * A scope must hold a process and goes with its last one: that is the monitor, in a cgroup of its own inside, as cgroup v2
 * allows none beside those of containers. Rejects when no container can start in the pod.
 */
export async function enterScope(
  env: Environment,
  { id, cgroup, config }: Sandbox,
  processes: MonitorProcesses,
): Promise<void> {
  if (env.systemd === undefined) throw podErrors.systemdMissing({ reason: "systemd is not PID 1 here" });
  const [, slice = "-.slice"] = /([^/]+)\/[^/]+$/.exec(cgroup) ?? [];
  const description = scopeDescription(config.metadata, env.runDirectory);
  const pids = pidsOf(processes);
  await env.systemd.startScope({ name: scopeName(id), slice, description }, pids);
  if (!env.cgroups.unified) return;
  const own = join(env.cgroups.v2, cgroup, "monitor");
  await mkdir(own);
  for (const pid of pids) await writeFile(join(own, "cgroup.procs"), String(pid));
}

/** For the monitor of a pod without a scope. Never rejects: where it stays it works as well, but ends with the unit. */
export async function leaveDaemonUnit(env: Environment, { id }: Sandbox, processes: MonitorProcesses): Promise<void> {
  if (env.systemd === undefined) return;
  try {
    await env.systemd.joinScope(monitorsScope, pidsOf(processes));
  } catch (error) {
    env.log("warn", `pod sandbox ${id}: its monitor stays in the daemon's own unit: ${String(error)}`);
  }
}

/** The same, of a pod that was found at a start: an older keelson, or one that was killed, has left it where it began. */
export async function leaveDaemonUnitLater(env: Environment, sandbox: Sandbox): Promise<void> {
  const { monitor, monitorPid } = sandbox;
  if (env.systemd === undefined || monitor === undefined || isScoped(sandbox)) return;
  const cgroups = await readFile(`/proc/${monitorPid}/cgroup`, "utf8").catch(() => "");
  if (cgroups.includes(`/${monitorsScope.name}`)) return;
  const processes = await monitor.hello({ timeoutMs: limits.call }).catch(() => ({ pid: monitorPid }));
  await leaveDaemonUnit(env, sandbox, processes);
}

function pidsOf({ pid, initPid }: MonitorProcesses): number[] {
  return initPid === undefined ? [pid] : [pid, initPid];
}
