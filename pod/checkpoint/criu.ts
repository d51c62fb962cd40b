// CRIU (criu.org), which writes a process tree down: whether this host has one that works, and how it is to be called
// for a container. Sources: criu(8). Debian 12's 3.17 fails on Linux 6.18, 4.1 does not.

import { readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { isErrno, type MountEntry, type ProgramEnd, readMountTable, runProgram } from "../../native/index.ts";

export interface Criu {
  readonly version: string;
}

/** Why CRIU cannot be used here, in words. */
export interface NoCriu {
  readonly reason: string;
}

const stdout = { limit: 1 << 20 };
/** How long one that was asked to break off may take, milliseconds. */
const breakOffMs = 5_000;

/** Asks the `criu` of the PATH to look over this kernel. */
export async function findCriu(signal: AbortSignal): Promise<Criu | NoCriu> {
  try {
    const told = await runProgram("criu", ["--version"], signal, { stdout });
    const version = /^Version: (\S+)/m.exec(told.stdout)?.[1];
    if (version === undefined) return { reason: "criu does not tell its version" };
    const check = await runProgram("criu", ["check"], signal, { stdout });
    return check.code === 0
      ? { version }
      : { reason: `criu ${version} does not work on this kernel: ${lastError(check.stdout + check.stderr)}` };
  } catch (error) {
    signal.throwIfAborted();
    return { reason: isErrno(error, "ENOENT") ? "there is no criu in the PATH of keelson" : String(error) };
  }
}

export interface DumpPlan {
  /** Of the container's first process, on the host. */
  readonly pid: number;
  /** Takes the images; dump.log and the statistics go to `workDirectory`. */
  readonly imageDirectory: string;
  readonly workDirectory: string;
  /** The frozen cgroup, whose processes are dumped. */
  readonly freezer: string;
  /** Destinations of bind mounts in the container's config.json. */
  readonly binds: ReadonlySet<string>;
}

/** Arguments of `criu dump` for a container that runs on. Open sockets and locks are no obstacle. */
export async function dumpArguments(plan: DumpPlan): Promise<string[]> {
  const mounts = await readMountTable(plan.pid);
  const [net, pid] = await Promise.all(["net", "pid"].map((kind) => namespace(plan.pid, kind)));
  const externals = [
    // A restore mounts and joins these from where it is: they are the node's, or the pod's.
    ...mounts.filter((mount) => isExternal(mount, mounts, plan.binds)).map(({ at }) => `mnt[${at}]:${at}`),
    `net[${net}]:extRootNetNS`,
    ...((await isInit(plan.pid)) ? [] : [`pid[${pid}]:extRootPidNS`]),
  ];
  return [
    "dump",
    ...["--tree", String(plan.pid), "--images-dir", plan.imageDirectory, "--work-dir", plan.workDirectory],
    ...["--log-file", "dump.log", "--leave-running", "--freeze-cgroup", plan.freezer, "--manage-cgroups=ignore"],
    ...["--tcp-established", "--ext-unix-sk", "--file-locks"],
    ...externals.flatMap((external) => ["--external", external]),
  ];
}

/**
 * Runs criu with these arguments. When the signal aborts, it is not killed but made to fail by `breakOff`, which never
 * rejects; it is killed when that takes too long, or when `kill` aborts after the signal. Then the signal's reason is
 * thrown.
 */
export async function runCriu(
  args: readonly string[],
  signal: AbortSignal,
  kill: AbortSignal,
  breakOff: () => Promise<void>,
): Promise<ProgramEnd> {
  signal.throwIfAborted();
  const killing = new AbortController();
  const giveUp = () => killing.abort(signal.reason);
  let patience: NodeJS.Timeout | undefined;
  const ask = () => {
    patience = setTimeout(giveUp, breakOffMs);
    void breakOff();
  };
  signal.addEventListener("abort", ask, { once: true });
  kill.addEventListener("abort", giveUp, { once: true });
  try {
    // What criu leaves behind would go on with the container.
    const end = await runProgram("criu", args, killing.signal, { stdout, killsChildren: true });
    signal.throwIfAborted();
    return end;
  } finally {
    clearTimeout(patience);
    signal.removeEventListener("abort", ask);
    kill.removeEventListener("abort", giveUp);
  }
}

/** The last error in what CRIU printed or logged. */
export function lastError(log: string): string {
  // "(00.043264) Error (criu/mount.c:753): mnt: …"; the last ones only say which step and that the dump failed.
  const errors = [...log.matchAll(/(?:Error \([^)]*\)|^\S*criu): ?(.+)$/gm)].map(([, text = ""]) => text);
  const telling = errors.findLast((text) => !/^Dumping FAILED|failed with -\d+$|RLIMIT_NOFILE/.test(text));
  return telling ?? (log.trim().split("\n").at(-1) || "it says nothing");
}

/** Made of something outside the container: a bind mount, a cgroup, or a part of what is nowhere mounted whole. */
function isExternal(
  { device, root, at, type }: MountEntry,
  all: readonly MountEntry[],
  binds: ReadonlySet<string>,
): boolean {
  if (at === "/") return false;
  if (binds.has(at) || type.startsWith("cgroup")) return true;
  return root !== "/" && !all.some((other) => other.device === device && other.root === "/");
}

/** "net:[4026532179]" */
async function namespace(pid: number, kind: string): Promise<string> {
  const link = await readlink(`/proc/${pid}/ns/${kind}`);
  return /\d+/.exec(link)?.[0] ?? link;
}

/** Whether it is the first process of its PID namespace; proc_pid_status(5), NSpid. */
async function isInit(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return /^NSpid:.*\t1$/m.test(status);
}

/** What stands behind the first three descriptors, for the restoring side; runc calls the file descriptors.json. */
export async function standardStreams(pid: number): Promise<string[]> {
  return await Promise.all([0, 1, 2].map((fd) => readlink(join("/proc", String(pid), "fd", String(fd)))));
}
