// The host's cgroups: where a cgroup's directories are, how to empty and remove it.
// The monitor creates and fills cgroups; this is for stats, and for cleanup after a monitor that died.
// Sources: cgroups(7), cgroup-v2.rst (cgroup.kill).

import { existsSync } from "node:fs";
import { readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type CgroupTree, killProcess } from "../native/index.ts";
import { podErrors } from "./errors.ts";

/** The directories of `cgroup` in all hierarchies. */
export function cgroupDirectories(tree: CgroupTree, cgroup: string): string[] {
  const roots = new Set([...tree.v1.values(), ...(tree.v2 === "" ? [] : [tree.v2])]);
  return [...roots].map((root) => join(root, cgroup));
}

/** Mount point of the hierarchy that systemd uses for its units. */
export function systemdRoot(tree: CgroupTree): string {
  return tree.v2 || (tree.v1.get("name=systemd") ?? "");
}

/** The processes directly in the cgroup, in any hierarchy. */
export async function cgroupProcesses(tree: CgroupTree, cgroup: string): Promise<number[]> {
  const lists = await Promise.all(
    cgroupDirectories(tree, cgroup).map(
      async (path) => await readFile(join(path, "cgroup.procs"), "utf8").catch(() => ""),
    ),
  );
  return [...new Set(lists.flatMap((list) => list.split("\n").filter((line) => line !== "")).map(Number))];
}

/**
 * Kills all processes in the cgroup and removes it with its children. Rejects when something is left after `limitMs`.
 * Keeps the directory by which systemd watches a scope: systemd learns from it that the scope is empty, which it could
 * miss if the directory were removed at the same moment, and then removes it itself.
 */
export async function clearCgroup(tree: CgroupTree, cgroup: string, limitMs: number, isScope: boolean): Promise<void> {
  // Usually it no longer exists in any hierarchy. A synchronous check does not block here and is cheaper than a thread.
  const directories = cgroupDirectories(tree, cgroup).filter((directory) => existsSync(directory));
  if (directories.length === 0) return;
  const watched = isScope ? join(systemdRoot(tree), cgroup) : "";
  const deadline = performance.now() + limitMs;
  for (;;) {
    const busy = (
      await Promise.all(directories.map((directory) => clearDirectory(directory, directory === watched)))
    ).includes(true);
    if (!busy) return;
    if (performance.now() > deadline) throw podErrors.processesAlive({ cgroup, seconds: limitMs / 1000 });
    await delay(10);
  }
}

/** Removes the cgroup from the hierarchies where it is empty, and keeps it elsewhere. */
export async function removeEmptyCgroup(tree: CgroupTree, cgroup: string): Promise<void> {
  await Promise.all(cgroupDirectories(tree, cgroup).map(async (directory) => await rmdir(directory).catch(() => {})));
}

/** True when the directory still exists; with `stays`, when it still contains a process. */
async function clearDirectory(directory: string, stays = false): Promise<boolean> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => undefined);
  if (entries === undefined) return false;
  const children = entries.filter((entry) => entry.isDirectory()).map((entry) => join(directory, entry.name));
  const busy = (await Promise.all(children.map((child) => clearDirectory(child)))).includes(true);
  await killInside(directory);
  if (stays) return busy || (await readFile(join(directory, "cgroup.procs"), "utf8").catch(() => "")) !== "";
  try {
    await rmdir(directory);
    return busy;
  } catch {
    return true;
  }
}

async function killInside(directory: string): Promise<void> {
  // In a frozen v1 cgroup, processes do not die even from SIGKILL.
  await writeFile(join(directory, "freezer.state"), "THAWED", { flag: "r+" }).catch(() => undefined);
  const killed = await writeFile(join(directory, "cgroup.kill"), "1", { flag: "r+" }).then(
    () => true,
    () => false,
  );
  if (killed) return;
  const pids = await readFile(join(directory, "cgroup.procs"), "utf8").catch(() => "");
  // Processes outside our PID namespace are listed as 0, and kill(0) would kill our own process group.
  for (const pid of pids.split("\n").map(Number)) if (pid > 0) killProcess(pid);
}
