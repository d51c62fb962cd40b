// The cgroup driver: whether pods live in cgroups that Keelson creates or in systemd scopes. Chooses a pod's cgroup and
// the cgroup of its monitor, which must be outside the daemon's own unit: systemd stops and limits that as a whole.

import { existsSync } from "node:fs";
import { mkdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
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

/** Exists while systemd is PID 1; see sd_booted(3). */
const bootedBySystemd = "/run/systemd/system";

export async function isBootedBySystemd(): Promise<boolean> {
  return await stat(bootedBySystemd).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Also checks that the driver can place pods in `cgroupRoot`. */
export async function chooseCgroupDriver(configured: CgroupDriver | "auto", cgroupRoot: string): Promise<CgroupDriver> {
  const driver = await usableDriver(configured);
  checkCgroupRoot(driver, cgroupRoot);
  return driver;
}

/** With systemd it must have the form of a slice. */
export function checkCgroupRoot(driver: CgroupDriver, cgroupRoot: string): void {
  if (driver === "systemd" && sliceOfCgroup(cgroupRoot) === undefined) throw podErrors.cgroupRoot({ root: cgroupRoot });
}

/** `auto` means systemd wherever it runs, because two managers of one cgroup tree conflict. */
async function usableDriver(configured: CgroupDriver | "auto"): Promise<CgroupDriver> {
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
    throw refuse("an absolute path that is not a slice, such as /kubepods/besteffort");
  }
  return cgroupParent;
}

/** Whether the pod has a systemd scope. Its cgroup exists once its monitor is in the scope. */
export function isScoped({ id, cgroup }: Pick<Sandbox, "id" | "cgroup">): boolean {
  return cgroup.endsWith(`/${scopeName(id)}`);
}

/**
 * The cgroup whose statistics are the pod's: that of the caller's cgroup_parent, which has the pod's limits, and not the
 * scope in it, which has none. A pod without a cgroup_parent has only the latter.
 */
export function measuredCgroup(sandbox: Pick<Sandbox, "id" | "cgroup" | "config">): string {
  const { cgroup, config } = sandbox;
  return isScoped(sandbox) && config.cgroupParent !== "" ? dirname(cgroup) : cgroup;
}

function scopeName(id: SandboxId): string {
  return `keelson-${id}.scope`;
}

/** The pod's processes outside its containers: the monitor, and the init of the pod's own PID namespace. */
export interface MonitorProcesses {
  readonly pid: number;
  readonly initPid?: number;
}

/**
 * A scope must contain a process and is removed with its last one. The monitor is that process, in its own cgroup
 * inside the scope, because cgroup v2 allows no processes next to the containers' cgroups. Rejects when no container
 * can start in the pod.
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

/** For the monitor of a pod without a scope. Never rejects: the monitor also works in the unit, but dies with it. */
export async function leaveDaemonUnit(env: Environment, { id }: Sandbox, processes: MonitorProcesses): Promise<void> {
  if (env.systemd === undefined) return;
  try {
    await env.systemd.joinScope(monitorsScope, pidsOf(processes));
  } catch (error) {
    env.log("warn", `pod sandbox ${id}: its monitor stays in the daemon's own unit: ${String(error)}`);
  }
}

/** The same for a recovered pod: an older or killed keelson may have left its monitor in the daemon's unit. */
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
