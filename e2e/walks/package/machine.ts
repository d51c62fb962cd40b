// A Debian machine to install packages on: a tree created by mmdebstrap, whose systemd runs as PID 1 in its own
// namespaces and cgroups, at native speed on the host's kernel.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { access, mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { until } from "../../fixtures/steps.ts";

const execute = promisify(execFile);
const makeMs = 5 * 60_000;
const bootMs = 60_000;
const commandMs = 120_000;

/** systemd, the package's dependencies, so that nothing is downloaded during a test, and bash-completion. */
const installed =
  "systemd,systemd-sysv,dbus,init-system-helpers,libisal2,libseccomp2,libmnl0,libstdc++6,kmod,bash-completion";

export interface Ran {
  readonly code: number;
  /** stdout and stderr, interleaved. */
  readonly text: string;
}

export interface Machine {
  /** Its path on the host. */
  readonly tree: string;
  /** The host PID of its PID 1. */
  pid(): number;
  /** Translates a path on the machine to a path for a process on the host. */
  path(inside: string): string;
  /** Runs a shell command on it, as root. */
  run(command: string): Promise<Ran>;
  /** Rejects with the output unless the command exits with 0. */
  must(command: string): Promise<string>;
  off(): Promise<void>;
}

/** A tar of the tree, cached in `cache`. */
export async function debianTree(suite: string, cache: string): Promise<string> {
  const tar = join(cache, "trees", `package-${suite}.tar`);
  if (await isThere(tar)) return tar;
  await mkdir(join(cache, "trees"), { recursive: true });
  const unfinished = `${tar}.${process.pid}`;
  const args = ["--quiet", "--variant=minbase", `--include=${installed}`, "--format=tar", suite, unfinished];
  await execute("mmdebstrap", args, { timeout: makeMs });
  await rename(unfinished, tar);
  return tar;
}

/** Creates `directory` and unpacks the tree into it. The directory's name is also the name of its cgroups. */
export async function unpackTree(tar: string, directory: string): Promise<string> {
  const tree = join(directory, "tree");
  await mkdir(tree, { recursive: true });
  await execute("tar", ["--extract", "--file", tar, "--directory", tree, "--numeric-owner"]);
  return tree;
}

/** Starts the machine and waits until its systemd has started. */
export async function boot(directory: string): Promise<Machine> {
  const tree = join(directory, "tree");
  const cgroups = await makeCgroups(basename(directory));
  const log = openSync(join(directory, "console.log"), "a");
  const script = join(import.meta.dirname, "boot.sh");
  // The shell joins the cgroups before it unshares the cgroup namespace.
  const join_ = cgroups.map((cgroup) => `echo 0 > ${cgroup}/cgroup.procs`).join("; ");
  const namespaces = "--pid --mount --net --uts --ipc --cgroup --propagation private";
  const command = `${join_}; exec unshare ${namespaces} --fork --kill-child=KILL sh ${script} ${tree} ${basename(directory)}`;
  const child = spawn("sh", ["-ec", command], { stdio: ["ignore", log, log] });
  closeSync(log);
  const machine = new NamespacedMachine(tree, child, cgroups);
  try {
    await machine.settle();
    return machine;
  } catch (error) {
    await machine.off();
    throw error;
  }
}

class NamespacedMachine implements Machine {
  readonly tree: string;
  readonly #child: ChildProcess;
  readonly #cgroups: readonly string[];
  #pid = 0;

  constructor(tree: string, child: ChildProcess, cgroups: readonly string[]) {
    this.tree = tree;
    this.#child = child;
    this.#cgroups = cgroups;
  }

  async settle(): Promise<void> {
    const { pid } = this.#child;
    this.#pid = await until("the machine has a PID 1", bootMs, async () => {
      const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
      return Number(children.trim()) || undefined;
    });
    await until("systemd has started everything", bootMs, async () => {
      const comm = await readFile(`/proc/${this.#pid}/comm`, "utf8");
      const { text } = comm === "systemd\n" ? await this.run("systemctl is-system-running") : { text: "" };
      return /^(running|degraded)/.test(text) || undefined;
    });
    // Writable from now on, as on a host: pods write only sysctls of their own network namespace.
    await this.must("umount --lazy /proc/sys");
  }

  pid(): number {
    return this.#pid;
  }

  path(inside: string): string {
    return `/proc/${this.#pid}/root${inside}`;
  }

  async run(command: string): Promise<Ran> {
    const enter = ["--target", String(this.#pid), "--all", "--root", "--wd"];
    const env = {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: "/root",
      LANG: "C.UTF-8",
      DEBIAN_FRONTEND: "noninteractive",
    };
    return await execute("nsenter", [...enter, "sh", "-c", `{ ${command}\n} 2>&1`], { env, timeout: commandMs }).then(
      ({ stdout }) => ({ code: 0, text: stdout }),
      (error: { code?: number; stdout?: string }) => ({ code: error.code ?? -1, text: error.stdout ?? String(error) }),
    );
  }

  async must(command: string): Promise<string> {
    const { code, text } = await this.run(command);
    if (code !== 0) throw new Error(`${command}: exit status ${code}\n${text}`);
    return text;
  }

  async off(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill("SIGKILL");
      await ended;
    }
    for (const cgroup of this.#cgroups) {
      // The kernel may still be killing the last processes of the namespace.
      await until(`${cgroup} is empty and removed`, bootMs, () => removeCgroup(cgroup));
    }
  }
}

/** In each cgroup v1 hierarchy of the host, or in the v2 hierarchy. */
async function makeCgroups(name: string): Promise<string[]> {
  const root = "/sys/fs/cgroup";
  const unified = await isThere(join(root, "cgroup.controllers"));
  // Except hugetlb, which other tests mount temporarily: cgroups created in it then could not be removed later.
  const names = (await readdir(root)).filter((each) => each !== "hugetlb");
  const hierarchies = unified ? [root] : names.map((each) => join(root, each));
  const made = [];
  for (const hierarchy of hierarchies) {
    const cgroup = join(hierarchy, name);
    await mkdir(cgroup);
    made.push(cgroup);
    for (const file of ["cpuset.cpus", "cpuset.mems"]) {
      const above = await readFile(join(hierarchy, file), "utf8").catch(() => undefined);
      if (above !== undefined && !unified) await writeFile(join(cgroup, file), above);
    }
  }
  return made;
}

async function removeCgroup(cgroup: string): Promise<true | undefined> {
  const below = await readdir(cgroup, { withFileTypes: true }).catch(() => []);
  for (const entry of below) if (entry.isDirectory()) await removeCgroup(join(cgroup, entry.name));
  return await rmdir(cgroup).then(
    () => true as const,
    (error: NodeJS.ErrnoException) => (error.code === "ENOENT" ? true : undefined),
  );
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

/** All paths below `tree`, except volatile files and the state of Debian's programs and of network plugins. */
export async function namesIn(tree: string): Promise<Set<string>> {
  const aside = [
    "./proc",
    "./sys",
    "./run",
    "./dev",
    "./tmp",
    "./root",
    "./var/log",
    "./var/lib/dpkg",
    "./var/lib/apt",
    "./var/lib/cni",
  ];
  const prune = [...aside, "./var/cache", "./var/lib/systemd/timers"].flatMap((path) => [
    "-path",
    path,
    "-prune",
    "-o",
  ]);
  const { stdout } = await execute("find", [".", ...prune, "-print"], { cwd: tree, maxBuffer: 64 << 20 });
  return new Set(stdout.trimEnd().split("\n"));
}

/** Removes a machine's directory; it must be off. */
export async function discard(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
}
