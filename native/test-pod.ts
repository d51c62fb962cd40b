// Pods on this host for the tests of the monitor's client: a sealed monitor, busybox as the root's only layer.

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
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Host, nativePaths, type SpawnedMonitor, spawnMonitor } from "./index.ts";

/** A deadline that real calls keep. */
export const soon = { timeoutMs: 10_000 };

export const seccompProbe = fileURLToPath(new URL("./build/seccomp-probe", import.meta.url));

/** Everything below one directory, which goes with `remove`. */
export class TestPods {
  readonly executableFd: number;
  readonly base: string;
  readonly #host: Host;

  private constructor(host: Host, executableFd: number, base: string) {
    this.#host = host;
    this.executableFd = executableFd;
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
    return new TestPods(host, await host.sealedCopy(nativePaths().monitor), base);
  }

  async remove(): Promise<void> {
    closeSync(this.executableFd);
    await this.#host.removeTree(this.base);
  }

  /** A pod directory with its sandbox.json; its id is its name. */
  makePod(changes: object = {}): string {
    const id = randomBytes(32).toString("hex");
    const directory = join(this.base, id);
    mkdirSync(directory, { mode: 0o700 });
    const namespaces = { net: "pod", ipc: "pod", uts: "pod", pid: "container" };
    const cgroup = `/keelson-client-${id}`;
    const sandbox = { version: 1, id, hostname: "client-test", namespaces, cgroup, own_cgroup: true, ...changes };
    writeFileSync(join(directory, "sandbox.json"), JSON.stringify(sandbox));
    return directory;
  }

  async spawn(podDirectory: string): Promise<SpawnedMonitor> {
    return await spawnMonitor({ executableFd: this.executableFd, podDirectory, timeoutMs: 10_000 });
  }

  /** A pod for the time of `use`; what it leaves on the host is an error. */
  async withPod(use: (pod: string, spawned: SpawnedMonitor) => Promise<void>): Promise<void> {
    const pod = this.makePod();
    const spawned = await this.spawn(pod);
    try {
      await use(pod, spawned);
    } finally {
      await spawned.monitor.shutdown(0, soon).catch(() => undefined);
    }
    const left = leftovers(pod);
    if (left.length > 0) throw new Error(`the pod left behind: ${left.join(", ")}`);
  }

  /** A container's bundle in the pod's directory; answers what to start it with. */
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

/** What a pod that is gone must not leave on the host: mounts and cgroups. */
export function leftovers(pod: string): string[] {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  const cgroup = `keelson-client-${pod.slice(-64)}`;
  const hierarchies = readdirSync("/sys/fs/cgroup").map((name) => join("/sys/fs/cgroup", name, cgroup));
  return [...mounts.filter((line) => line.includes(pod)), ...hierarchies.filter((path) => existsSync(path))];
}

/** What this process has open. */
export function openDescriptors(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}
