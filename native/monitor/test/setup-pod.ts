// A pod directory and a bundle on a busybox root, for the tests that run real containers through `setup-test`.

import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { sandboxHierarchies } from "../../testing/sandbox-hierarchies.ts";

/** Every test runs with both builds: `make -C native all sanitize`. */
export const builds: readonly { readonly build: string; readonly program: string }[] = [
  { build: "plain", program: fileURLToPath(new URL("../../build/setup-test", import.meta.url)) },
  { build: "sanitized", program: fileURLToPath(new URL("../../build/sanitize/setup-test", import.meta.url)) },
];

export interface MountOptions {
  readonly destination: string;
  readonly type?: string;
  readonly source?: string;
  readonly options?: readonly string[];
}

export interface Namespace {
  readonly type: string;
  readonly path?: string;
}

/** The members of config.json that tests change; absent ones are those of `defaultConfig`. */
export interface Changes {
  readonly args?: readonly string[];
  readonly process?: Record<string, unknown>;
  readonly root?: Record<string, unknown>;
  readonly mounts?: readonly MountOptions[];
  readonly linux?: Record<string, unknown>;
  /** sandbox.json's members. */
  readonly sandbox?: Record<string, unknown>;
  /** A compiled filter for <bundle>/seccomp.bpf. */
  readonly filter?: Buffer;
}

export interface News {
  readonly event: string;
  readonly [member: string]: unknown;
}

export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  /** Every line of descriptor 3, in order. */
  readonly news: readonly News[];
}

export const defaultMounts: readonly MountOptions[] = [
  { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
  { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755", "size=64k"] },
  {
    destination: "/dev/pts",
    type: "devpts",
    source: "devpts",
    options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
  },
  { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"] },
  { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] },
  { destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["nosuid", "noexec", "nodev", "ro"] },
];

export const maskedPaths = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware"];
export const readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/** One pod with one container; `remove` removes everything it created. */
export class TestPod {
  readonly id = randomBytes(32).toString("hex");
  readonly base = mkdtempSync(join(tmpdir(), "keelson-setup-"));
  readonly podDir = join(this.base, "pod");
  readonly bundle = join(this.base, "bundle");
  readonly layer = join(this.base, "layer");
  #layers = 0;
  readonly cgroup = `/keelson-setup-${this.id.slice(0, 12)}`;
  readonly containerCgroup = `${this.cgroup}/container`;
  readonly #program: string;
  readonly #running: RunningPod[] = [];

  constructor(program: string) {
    if (!existsSync(program)) throw new Error(`${program} is missing: run make -C native all sanitize`);
    this.#program = program;
    for (const directory of [this.podDir, join(this.bundle, "rootfs")]) {
      mkdirSync(directory, { recursive: true });
    }
    for (const directory of ["bin", "etc", "tmp", "proc", "sys", "dev"]) {
      mkdirSync(join(this.layer, directory), { recursive: true });
    }
    cpSync("/bin/busybox", join(this.layer, "bin/busybox"));
    for (const applet of ["sh", "cat", "true", "sleep", "ls", "id", "mount", "umount", "stat", "readlink", "tty"]) {
      symlinkSync("busybox", join(this.layer, "bin", applet));
    }
  }

  namespaces(): Namespace[] {
    const pinned = (name: string) => join(this.podDir, "ns", name);
    return [
      { type: "pid" },
      { type: "mount" },
      { type: "cgroup" },
      { type: "network", path: pinned("net") },
      { type: "ipc", path: pinned("ipc") },
      { type: "uts", path: pinned("uts") },
    ];
  }

  /** The writable layer of the last `write`. */
  get upper(): string {
    return join(this.base, `upper-${this.#layers}`);
  }

  /** Writes sandbox.json and the bundle, with a new writable layer. */
  write(changes: Changes = {}): void {
    const sandbox = {
      version: 1,
      id: this.id,
      hostname: "setup-test",
      namespaces: { net: "pod", ipc: "pod", uts: "pod", pid: "container" },
      shm_size: 1 << 20,
      cgroup_hierarchies: sandboxHierarchies(),
      cgroup: this.cgroup,
      own_cgroup: true,
      ...changes.sandbox,
    };
    const config = {
      ociVersion: "1.2.0",
      process: {
        user: { uid: 0, gid: 0 },
        args: changes.args ?? ["/bin/true"],
        env: ["PATH=/bin"],
        cwd: "/",
        capabilities: {},
        noNewPrivileges: true,
        ...changes.process,
      },
      root: { path: "rootfs", ...changes.root },
      mounts: changes.mounts ?? defaultMounts,
      linux: {
        cgroupsPath: this.containerCgroup,
        namespaces: this.namespaces(),
        maskedPaths,
        readonlyPaths,
        ...changes.linux,
      },
    };
    this.#layers += 1;
    const rootfs = { lower: [this.layer], upper: this.upper, work: join(this.base, `work-${this.#layers}`) };
    mkdirSync(rootfs.upper);
    mkdirSync(rootfs.work);
    writeFileSync(join(this.podDir, "sandbox.json"), JSON.stringify(sandbox));
    writeFileSync(join(this.bundle, "config.json"), JSON.stringify(config));
    writeFileSync(join(this.bundle, "rootfs.json"), JSON.stringify(rootfs));
    if (changes.filter) writeFileSync(join(this.bundle, "seccomp.bpf"), changes.filter);
  }

  /** Starts the container, and `exec` in it; the caller may communicate with it while it runs. */
  start(exec: readonly string[] = []): RunningPod {
    const running = new RunningPod(
      spawn(this.#program, ["run", this.podDir, this.bundle, ...exec], {
        stdio: ["pipe", "pipe", "pipe", "pipe"],
        env: {},
      }),
    );
    this.#running.push(running);
    return running;
  }

  async run(changes: Changes, exec: readonly string[] = []): Promise<Outcome> {
    this.write(changes);
    return await this.start(exec).end();
  }

  /** The output of a shell script, which most tests check. */
  async shell(script: string, changes: Changes = {}): Promise<string> {
    const outcome = await this.run({ ...changes, args: ["/bin/sh", "-c", script] });
    const exited = outcome.news.find((line) => line.event === "exited");
    if (!exited) throw new Error(`the container did not run: ${JSON.stringify(outcome.news)} ${outcome.stderr}`);
    return outcome.stdout + outcome.stderr;
  }

  /** What the pod has left on the host, which must be nothing: mounts, cgroups, files. */
  leftovers(): string[] {
    const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
    const hierarchies = readdirSync("/sys/fs/cgroup", { withFileTypes: true }).filter((entry) => entry.isDirectory());
    const files = ["ns", "shm", "files"].map((name) => join(this.podDir, name));
    return [
      ...mounts.filter((line) => line.includes(this.base)),
      ...hierarchies.map(({ name }) => join("/sys/fs/cgroup", name, this.cgroup)).filter((path) => existsSync(path)),
      ...files.filter((path) => existsSync(path)),
    ];
  }

  /** Waits for what a failed test left running, and returns what the pod left on the host. */
  async remove(): Promise<string[]> {
    for (const running of this.#running) await running.end();
    const left = this.leftovers();
    if (left.length === 0) rmSync(this.base, { recursive: true, force: true });
    return left;
  }
}

export class RunningPod {
  readonly #process: ChildProcess;
  readonly #text = { stdout: "", stderr: "", news: "" };
  readonly #closed: Promise<void>;
  #wake: () => void = () => {};

  constructor(process: ChildProcess) {
    this.#process = process;
    this.#collect(process.stdout, "stdout");
    this.#collect(process.stderr, "stderr");
    this.#collect(process.stdio[3] as Readable, "news");
    this.#closed = new Promise((resolve) => process.once("close", () => resolve()));
  }

  #collect(stream: Readable | null, name: "stdout" | "stderr" | "news"): void {
    stream?.on("data", (chunk: Buffer) => {
      this.#text[name] += chunk.toString("latin1");
      this.#wake();
    });
  }

  async #until(stream: "stdout" | "news", marker: string): Promise<void> {
    const deadline = Date.now() + 10_000;
    while (!this.#text[stream].includes(marker)) {
      if (Date.now() > deadline) throw new Error(`no "${marker}" in: ${JSON.stringify(this.#text)}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 100).unref();
      });
    }
  }

  /** Waits until the container's output contains `marker`. */
  async output(marker: string): Promise<string> {
    await this.#until("stdout", marker);
    return this.#text.stdout;
  }

  news(): News[] {
    return this.#text.news
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
  }

  /** The container's pid on the host. */
  async pid(): Promise<number> {
    await this.#until("news", '"started"');
    return Number(this.news().find((line) => line.event === "started")?.pid);
  }

  say(text: string): void {
    this.#process.stdin?.write(text);
  }

  async end(): Promise<Outcome> {
    this.#process.stdin?.end();
    await this.#closed;
    return { stdout: this.#text.stdout, stderr: this.#text.stderr, news: this.news() };
  }
}
