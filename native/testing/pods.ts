// Pods on this host for tests of the monitor's client: a sealed monitor, and busybox as the only layer.

import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Host, MonitorForkServer, nativePaths, type SpawnedMonitor, spawnMonitor } from "../index.ts";
import { sandboxHierarchies } from "./sandbox-hierarchies.ts";

/** A deadline that real calls always meet. */
export const soon = { timeoutMs: 10_000 };

export const seccompProbe = fileURLToPath(new URL("../build/testing/seccomp-probe", import.meta.url));

/** Keeps everything below one directory, which `remove` deletes. */
export class TestPods {
  readonly executableFd: number;
  readonly emptyMountsFd: number;
  readonly forkServer: MonitorForkServer;
  readonly base: string;
  readonly #host: Host;
  readonly #spawned = new Map<string, number>();

  private constructor(host: Host, executableFd: number, emptyMountsFd: number, base: string) {
    this.#host = host;
    this.executableFd = executableFd;
    this.emptyMountsFd = emptyMountsFd;
    this.forkServer = new MonitorForkServer({ executableFd, emptyMountsFd, podsDirectory: base });
    this.base = base;
  }

  static async prepare(host: Host): Promise<TestPods> {
    const base = mkdtempSync(join(tmpdir(), "keelson-client-"));
    const bin = join(base, "layer/bin");
    mkdirSync(bin, { recursive: true });
    for (const directory of ["proc", "dev", "tmp"]) mkdirSync(join(base, "layer", directory));
    copyFileSync("/bin/busybox", join(bin, "busybox"));
    copyFileSync(seccompProbe, join(bin, "seccomp-probe"));
    const applets = execFileSync("/bin/busybox", ["--list"], { encoding: "utf8" }).trim().split("\n");
    for (const applet of applets) if (applet !== "busybox") symlinkSync("busybox", join(bin, applet));
    const emptyMountsFd = await host.emptyMountNamespace();
    return new TestPods(host, await host.sealedCopy(nativePaths().monitor), emptyMountsFd, base);
  }

  /** Cleans up after failed tests and tests that kill a monitor, then removes the directory. */
  async remove(): Promise<void> {
    await this.forkServer.end();
    closeSync(this.executableFd);
    closeSync(this.emptyMountsFd);
    for (const [pod, pid] of this.#spawned) {
      if (isMonitorOf(pod, pid)) process.kill(pid, "SIGKILL");
      for (const left of leftovers(pod).mounts) await this.#host.unmount(left);
      for (const left of leftovers(pod).cgroups) rmdirSync(left);
    }
    await this.#host.removeTree(this.base);
  }

  /** Creates a pod directory with its sandbox.json; its name is the pod's id. */
  makePod(changes: object = {}): string {
    const id = randomBytes(32).toString("hex");
    const directory = join(this.base, id);
    mkdirSync(directory, { mode: 0o700 });
    const namespaces = { net: "pod", ipc: "pod", uts: "pod", pid: "container" };
    const cgroup = `/keelson-client-${id}`;
    const own = { hostname: "client-test", namespaces, cgroup, own_cgroup: true };
    const sandbox = { version: 1, id, cgroup_hierarchies: sandboxHierarchies(), ...own, ...changes };
    writeFileSync(join(directory, "sandbox.json"), JSON.stringify(sandbox));
    return directory;
  }

  async spawn(podDirectory: string): Promise<SpawnedMonitor> {
    const spawned = await spawnMonitor({ forkServer: this.forkServer, podDirectory, timeoutMs: 10_000 });
    this.#spawned.set(podDirectory, spawned.pid);
    return spawned;
  }

  /** Runs a pod during `use`; anything it leaves behind on the host is an error. */
  async withPod(use: (pod: string, spawned: SpawnedMonitor) => Promise<void>): Promise<void> {
    const pod = this.makePod();
    const spawned = await this.spawn(pod);
    try {
      await use(pod, spawned);
    } finally {
      await spawned.monitor.shutdown(0, soon).catch(() => undefined);
    }
    const { mounts, cgroups } = leftovers(pod);
    if (mounts.length + cgroups.length > 0)
      throw new Error(`the pod left behind: ${[...mounts, ...cgroups].join(", ")}`);
  }

  /** Creates a container's bundle in the pod's directory; returns the request to start it. */
  makeContainer(pod: string, args: readonly string[]): { id: string; bundle: string; stdin: false; stdinOnce: false } {
    const id = randomBytes(32).toString("hex");
    const bundle = join(pod, "containers", id);
    for (const name of ["rootfs", "upper", "work"]) mkdirSync(join(bundle, name), { recursive: true });
    const pinned = (type: string, name: string) => ({ type, path: join(pod, "ns", name) });
    const config = {
      ociVersion: "1.2.0",
      process: {
        args,
        cwd: "/",
        env: ["PATH=/bin"],
        user: { uid: 0, gid: 0 },
        capabilities: {},
        noNewPrivileges: true,
      },
      root: { path: "rootfs" },
      mounts: [
        { destination: "/proc", type: "proc", source: "proc" },
        { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["mode=755"] },
        { destination: "/dev/pts", type: "devpts", source: "devpts", options: ["newinstance", "ptmxmode=0666"] },
      ],
      linux: {
        cgroupsPath: `/keelson-client-${pod.slice(-64)}/${id}`,
        namespaces: [
          { type: "pid" },
          { type: "mount" },
          pinned("network", "net"),
          pinned("ipc", "ipc"),
          pinned("uts", "uts"),
        ],
      },
    };
    const rootfs = { lower: [join(this.base, "layer")], upper: join(bundle, "upper"), work: join(bundle, "work") };
    writeFileSync(join(bundle, "config.json"), JSON.stringify(config));
    writeFileSync(join(bundle, "rootfs.json"), JSON.stringify(rootfs));
    return { id, bundle, stdin: false, stdinOnce: false };
  }
}

/** What a removed pod must not leave on the host: paths of mount points and cgroups. */
export function leftovers(pod: string): { mounts: string[]; cgroups: string[] } {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((mountPoint) => mountPoint.startsWith(`${pod}/`));
  const cgroup = `keelson-client-${pod.slice(-64)}`;
  const cgroups = readdirSync("/sys/fs/cgroup")
    .map((name) => join("/sys/fs/cgroup", name, cgroup))
    .filter((path) => existsSync(path));
  return { mounts, cgroups };
}

/** True while the process is the one that was spawned for this pod, not a later one with the same pid. */
function isMonitorOf(pod: string, pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(pod);
  } catch {
    return false;
  }
}

/** The targets of this process's open descriptors. */
export function openDescriptors(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}
