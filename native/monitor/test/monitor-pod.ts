// A pod on this host for the monitor's tests: a real keelson-monitor, with busybox as the only layer of the root.

import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  copyFileSync,
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
import { Readable } from "node:stream";
import { loadHost } from "../../client/host.ts";
import { sandboxHierarchies } from "../../testing/sandbox-hierarchies.ts";
import { Call, CallError, fields, Type } from "./call.ts";

export const monitorBinary = process.env.KEELSON_MONITOR ?? join(import.meta.dirname, "../../build/keelson-monitor");

export interface PodOptions {
  readonly pid?: "pod" | "container" | "host";
  readonly net?: "pod" | "host";
  /** Where its network namespace is pinned. */
  readonly netns?: string;
  /** Descriptor 4; as given by the daemon if absent. */
  readonly descriptor4?: "nothing" | "another file";
}

export interface ContainerOptions {
  readonly args?: readonly string[];
  readonly tty?: boolean;
  readonly stdin?: boolean;
  readonly stdinOnce?: boolean;
  readonly log?: boolean;
  readonly memoryBytes?: number;
  readonly uid?: number;
  readonly capabilities?: readonly string[];
  /** In addition to PATH. */
  readonly env?: readonly string[];
  readonly handler?: { readonly binary: string; readonly root: string };
}

export type State = Record<string, unknown>;

/** Runs `body` with a pod that is shut down afterwards; anything it leaves on the host fails the test. */
export async function withPod(options: PodOptions, body: (pod: TestPod) => Promise<void>): Promise<void> {
  const pod = await TestPod.start(options);
  try {
    await body(pod);
    await pod.shutdown();
    pod.expectNothingLeft();
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error}\nmonitor.log: ${pod.warnings()}`, {
      cause: error,
    });
  } finally {
    pod.cleanUp();
  }
}

export class TestPod {
  readonly directory: string;
  readonly cgroup: string;
  readonly process: ChildProcess;
  readonly ready: Record<string, unknown>;
  private readonly options: PodOptions;

  private constructor(options: PodOptions, directory: string, cgroup: string, child: ChildProcess, ready: State) {
    this.options = options;
    this.directory = directory;
    this.cgroup = cgroup;
    this.process = child;
    this.ready = ready;
  }

  static async start(options: PodOptions): Promise<TestPod> {
    const directory = mkdtempSync(join(tmpdir(), "keelson-monitor-"));
    const id = randomBytes(32).toString("hex");
    const cgroup = `/keelson-test-${id.slice(0, 12)}`;
    makeLayer(join(directory, "layer"));
    writeFileSync(
      join(directory, "sandbox.json"),
      JSON.stringify({
        version: 1,
        id,
        hostname: "test-0",
        namespaces: { net: options.net ?? "pod", ipc: "pod", uts: "pod", pid: options.pid ?? "container" },
        ...(options.netns === undefined ? {} : { netns: options.netns }),
        sysctls: {},
        shm_size: 1 << 20,
        cgroup_hierarchies: sandboxHierarchies(),
        cgroup,
        own_cgroup: true,
      }),
    );
    const { child, ready } = await spawnMonitor(directory, options.descriptor4);
    return new TestPod(options, directory, cgroup, child, ready);
  }

  get pid(): number {
    return Number(this.process.pid);
  }

  /** A connection that has sent nothing yet. */
  connect(): Call {
    return new Call(join(this.directory, "monitor.sock"));
  }

  call(op: string, request: object = {}): Call {
    const call = this.connect();
    call.send(Type.request, JSON.stringify({ op, ...request }));
    return call;
  }

  /** A call that has only a reply. */
  async ask(op: string, request: object = {}): Promise<State> {
    const call = this.call(op, request);
    const reply = await call.frame(Type.reply);
    await call.ended();
    return reply;
  }

  async run(id: string, options: ContainerOptions): Promise<State> {
    return this.ask("start", this.prepare(id, options));
  }

  /** Writes the bundle and returns the start request. */
  prepare(id: string, options: ContainerOptions): object {
    const bundle = join(this.directory, "containers", id);
    rmSync(bundle, { recursive: true, force: true }); // a volatile overlay's upper directory cannot be used again
    for (const name of ["rootfs", "upper", "work"]) mkdirSync(join(bundle, name), { recursive: true });
    writeFileSync(join(bundle, "config.json"), JSON.stringify(this.config(id, options)));
    writeFileSync(
      join(bundle, "rootfs.json"),
      JSON.stringify({
        lower: [join(this.directory, "layer")],
        upper: join(bundle, "upper"),
        work: join(bundle, "work"),
      }),
    );
    return {
      id,
      bundle,
      ...(options.log === false ? {} : { log_path: this.logPath(id) }),
      stdin: options.stdin ?? false,
      stdin_once: options.stdinOnce ?? false,
      ...(options.handler === undefined ? {} : { handler: options.handler }),
    };
  }

  logPath(id: string): string {
    return join(this.directory, `${id}.log`);
  }

  /** The log's lines without timestamps. */
  logLines(id: string): string[] {
    const lines = readFileSync(this.logPath(id), "utf8").split("\n");
    return lines.slice(0, -1).map((line) => line.slice(line.indexOf(" ") + 1));
  }

  exec(id: string, args: readonly string[], request: object = {}): Call {
    return this.call("exec", { id, args, tty: false, stdin: false, timeout_ms: 0, ...request });
  }

  async execOutput(id: string, ...args: string[]): Promise<string> {
    const call = this.exec(id, args);
    await call.frame(Type.reply);
    return call.output();
  }

  /** Resolves with the container's state once it has exited. */
  async exited(id: string): Promise<State> {
    const watch = this.call("watch");
    const find = () =>
      watch.frames
        .filter((frame) => frame.type === Type.event)
        .map((frame) => fields(frame.payload))
        .flatMap((event) =>
          event.type === "state" ? event.containers : event.type === "exited" ? [event.container] : [],
        )
        .find((state): state is State => isState(state) && state.id === id && state.state === "exited");
    await watch.until(() => find() !== undefined);
    watch.socket.destroy();
    return find() ?? {};
  }

  warnings(): string {
    try {
      return readFileSync(join(this.directory, "monitor.log"), "utf8");
    } catch {
      return "(none)";
    }
  }

  async shutdown(): Promise<void> {
    const gone = this.process.exitCode === null ? once(this.process, "exit") : Promise.resolve([this.process.exitCode]);
    await this.ask("shutdown", { grace_ms: 0 });
    const [code] = await gone;
    if (code !== 0) throw new Error(`the monitor exited with ${code}`);
  }

  expectNothingLeft(): void {
    const mounts = readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .filter((line) => line.includes(this.directory));
    const cgroups = cgroupDirectories(this.cgroup);
    const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").trim().split(" ").filter(Boolean);
    const orphans = children.filter((pid) => commandOf(pid).includes(this.directory));
    const files = readdirSync(this.directory).filter((name) => ["monitor.sock", "shm", "files"].includes(name));
    const pins = readdirSync(this.directory).includes("ns") ? readdirSync(join(this.directory, "ns")) : [];
    const left = [...mounts, ...cgroups, ...orphans, ...files, ...pins];
    if (left.length > 0) throw new Error(`left behind: ${left.join(", ")}`);
  }

  /** For a test that failed halfway: removes by force what the monitor would have removed. */
  cleanUp(): void {
    if (this.process.exitCode === null) this.process.kill("SIGKILL");
    for (const root of cgroupDirectories(this.cgroup)) killAll(root);
    const mounts = readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .map((line) => line.split(" ")[4] ?? "")
      .filter((path) => path.startsWith(this.directory));
    for (const path of mounts.reverse()) execFileSync("umount", ["-l", path]);
    execFileSync("sleep", ["0.05"]);
    for (const root of cgroupDirectories(this.cgroup)) execFileSync("find", [root, "-depth", "-type", "d", "-delete"]);
    rmSync(this.directory, { recursive: true, force: true });
  }

  private config(id: string, options: ContainerOptions): object {
    const pinned = (name: string) => ({
      type: name === "net" ? "network" : name,
      path: join(this.directory, "ns", name),
    });
    const pid = this.options.pid ?? "container";
    const uid = options.uid ?? 0;
    const capabilities = options.capabilities ?? ["CAP_KILL"];
    return {
      ociVersion: "1.0.2",
      hostname: "",
      process: {
        terminal: options.tty ?? false,
        user: { uid, gid: uid },
        args: options.args ?? ["sleep", "1000000"],
        env: ["PATH=/bin", ...(options.env ?? [])],
        cwd: "/",
        capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
        noNewPrivileges: true,
        oomScoreAdj: 0,
      },
      root: { path: "rootfs", readonly: false },
      mounts: [
        { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
        { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755", "size=65536k"] },
        {
          destination: "/dev/pts",
          type: "devpts",
          source: "devpts",
          options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
      ],
      linux: {
        cgroupsPath: `${this.cgroup}/${id}`,
        namespaces: [
          { type: "mount" },
          ...(pid === "container" ? [{ type: "pid" }] : pid === "pod" ? [pinned("pid")] : []),
          ...(this.options.net === "host" ? [] : [pinned("net")]),
          pinned("ipc"),
          pinned("uts"),
        ],
        resources:
          options.memoryBytes === undefined
            ? {}
            : { memory: { limit: options.memoryBytes, swap: options.memoryBytes } },
      },
    };
  }
}

/** For all monitors of this process. */
let emptyMounts: Promise<number> | undefined;

/** Rejects with the CallError when the monitor could not start. */
export async function spawnMonitor(
  directory: string,
  descriptor4?: PodOptions["descriptor4"],
): Promise<{ child: ChildProcess; ready: State }> {
  emptyMounts ??= loadHost().emptyMountNamespace();
  const fourth = { nothing: [], "another file": ["ignore" as const], "": [await emptyMounts] }[descriptor4 ?? ""];
  const child = spawn(monitorBinary, ["run", directory], {
    detached: true,
    stdio: ["ignore", "ignore", "ignore", "pipe", ...fourth],
  });
  const pipe = child.stdio[3];
  if (!(pipe instanceof Readable)) throw new Error("descriptor 3 is not a stream");
  const chunks: Buffer[] = [];
  for await (const chunk of pipe) chunks.push(chunk);
  let bytes = Buffer.concat(chunks);
  while (bytes.length >= 8 && bytes.readUInt8(0) === Type.event) bytes = bytes.subarray(8 + bytes.readUInt32LE(4));
  if (bytes.length < 8) throw new Error(`the monitor died: ${readFileSync(join(directory, "monitor.log"), "utf8")}`);
  const payload = bytes.subarray(8, 8 + bytes.readUInt32LE(4));
  if (bytes.readUInt8(0) !== Type.reply) throw new CallError(payload);
  return { child, ready: fields(payload) };
}

function isState(value: unknown): value is State {
  return typeof value === "object" && value !== null;
}

export function isAlive(pid: unknown): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}

export async function until(what: string, holds: () => boolean, limitMs = 10_000): Promise<void> {
  const end = Date.now() + limitMs;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`timeout after ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function makeLayer(root: string): void {
  for (const name of ["bin", "dev", "proc", "tmp", "etc"]) mkdirSync(join(root, name), { recursive: true });
  copyFileSync("/bin/busybox", join(root, "bin/busybox"));
  for (const name of execFileSync("/bin/busybox", ["--list"], { encoding: "utf8" }).trim().split("\n")) {
    if (name !== "busybox") symlinkSync("busybox", join(root, "bin", name));
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

function cgroupDirectories(cgroup: string): string[] {
  // find warns about directories of other tests that are removed meanwhile.
  const found = spawnSync("find", ["/sys/fs/cgroup", "-name", cgroup.slice(1)], { encoding: "utf8" });
  return found.stdout.split("\n").filter(Boolean);
}

/** Uses a shell in each directory: a path may be longer than PATH_MAX. Pid 0 is a process of another PID namespace. */
function killAll(root: string): void {
  const inEach = (file: string, script: string) =>
    spawnSync("find", [root, "-name", file, "-execdir", "sh", "-c", script, ";"]);
  inEach("freezer.state", "echo THAWED >freezer.state");
  inEach("cgroup.procs", "for pid in $(cat cgroup.procs); do [ $pid = 0 ] || kill -9 $pid; done");
}
