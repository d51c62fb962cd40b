// CRIU (criu.org), which checkpoints a process tree: whether this host has one that works, and how to run it for a
// container. Sources: criu(8). Debian 12's 3.17 fails on Linux 6.18, 4.1 does not.

import { readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { isErrno, type MountEntry, type ProgramEnd, readMountTable, runProgram } from "../../native/index.ts";

export interface Criu {
  readonly version: string;
}

/** Why CRIU cannot be used here, as text. */
export interface NoCriu {
  readonly reason: string;
}

const stdout = { limit: 1 << 20 };
/** How long criu may take to abort by itself, in milliseconds. */
const breakOffMs = 5_000;

/** Runs `criu check` of the criu in the PATH. */
export async function findCriu(signal: AbortSignal): Promise<Criu | NoCriu> {
  try {
    const output = await runProgram("criu", ["--version"], signal, { stdout });
    const version = /^Version: (\S+)/m.exec(output.stdout)?.[1];
    if (version === undefined) return { reason: "criu does not print its version" };
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
  /** The container's first process, in the host's PID namespace. */
  readonly pid: number;
  /** For the images; dump.log and the statistics are written to `workDirectory`. */
  readonly imageDirectory: string;
  readonly workDirectory: string;
  /** The frozen cgroup, whose processes are dumped. */
  readonly freezer: string;
  /** Destinations of bind mounts in the container's config.json. */
  readonly binds: ReadonlySet<string>;
}

/** Arguments of `criu dump` for a container that keeps running. Open sockets and locks are allowed. */
export async function dumpArguments(plan: DumpPlan): Promise<string[]> {
  const mounts = await readMountTable(plan.pid);
  const [net, pid] = await Promise.all(["net", "pid"].map((kind) => namespace(plan.pid, kind)));
  const externals = [
    // These belong to the node or the pod; a restore takes them from its own environment.
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
 * Runs criu with these arguments. When the signal aborts, criu is not killed but made to fail by `breakOff`, which
 * never rejects; it is killed when that takes too long, or when `kill` aborts after the signal. In both cases the
 * signal's reason is thrown.
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
    // Children that criu leaves behind would keep working on the container.
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
  // "(00.043264) Error (criu/mount.c:753): mnt: …"; the last errors only name the failed step or say that the dump
  // failed.
  const errors = [...log.matchAll(/(?:Error \([^)]*\)|^\S*criu): ?(.+)$/gm)].map(([, text = ""]) => text);
  const telling = errors.findLast((text) => !/^Dumping FAILED|failed with -\d+$|RLIMIT_NOFILE/.test(text));
  return telling ?? (log.trim().split("\n").at(-1) || "it printed nothing");
}

/**
 * Backed by something outside the container: a bind mount, a cgroup, or a subtree whose root is not mounted anywhere.
 */
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

/**
 * Targets of the first three descriptors, for the restoring side; runc calls the file descriptors.json. One that the
 * process has closed is empty, so that nothing is restored there.
 */
export async function standardStreams(pid: number): Promise<string[]> {
  const target = async (fd: number): Promise<string> =>
    await readlink(join("/proc", String(pid), "fd", String(fd))).catch((error: unknown) => {
      if (isErrno(error, "ENOENT")) return "";
      throw error;
    });
  return await Promise.all([0, 1, 2].map(target));
}
