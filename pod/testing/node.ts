// A test node for the pod model: monitors, network and images are scripted and outlive the daemon; records, pod
// directories and cgroups are files in a directory of the test.

import { mkdirSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, vi } from "vitest";
import type { Monitor, SpawnedMonitor } from "../../native/index.ts";
import type { CgroupDriver } from "../cgroup-driver.ts";
import type { Environment, Monitors } from "../environment.ts";
import { EventHub } from "../events.ts";
import type { RuntimeHandler } from "../handlers.ts";
import { NodePods } from "../pods.ts";
import { type ObjectRecord, Records } from "../records.ts";
import { recover } from "../recovery.ts";
import { AccountFiles } from "../spec/account-files.ts";
import { HostPaths } from "../spec/host-paths.ts";
import { Relabelling } from "../spec/relabel.ts";
import { SeccompFilters } from "../spec/seccomp.ts";
import type { ContainerId, PodEvent, SandboxId } from "../types.ts";
import { containerConfig, sandboxConfig } from "./configs.ts";
import { Script } from "./script.ts";
import { scriptedHost } from "./scripted-host.ts";
import { ScriptedImages } from "./scripted-images.ts";
import { ScriptedMonitor } from "./scripted-monitor.ts";
import { ScriptedNetwork } from "./scripted-network.ts";

export const never = new AbortController().signal;

const native: RuntimeHandler = {
  name: "native",
  features: { recursiveReadOnlyMounts: true, userNamespaces: true },
  usable: true,
  check: async () => undefined,
};

/** The life of one daemon: once it is killed, it gets no more answers, whether its requests are done or not. */
interface Life {
  killed: boolean;
}

/**
 * Copies the records without drafts, which come and go meanwhile. Settles only after all copies are done, because cp
 * would recreate a directory that is being removed.
 */
async function copyRecords(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  const names = (await readdir(from)).filter((name) => name.endsWith(".json"));
  const copies = names.map((name) =>
    cp(join(from, name), join(to, name), { recursive: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    }),
  );
  await Promise.allSettled(copies);
  await Promise.all(copies);
}

/** Creates a new node for each test of the file. */
export function useNode(): () => ScriptedNode {
  let node: ScriptedNode;
  beforeEach(async () => {
    node = await ScriptedNode.make();
  });
  afterEach(async () => await node.remove());
  return () => node;
}

/** A write that takes longer counts as hanging. */
const hangingWriteNs = 200_000_000n;

export class ScriptedNode {
  readonly directory: string;
  readonly script = new Script();
  readonly network = new ScriptedNetwork(this.script);
  readonly images = new ScriptedImages(this.script);
  /** The daemon's log lines, "warn …". */
  readonly log: string[] = [];
  readonly handlers = new Map([["native", native]]);
  cgroupDriver: CgroupDriver = "cgroupfs";
  systemd: Environment["systemd"];
  selinux: Environment["selinux"] = { kind: "off" };
  lowestOomScore = -1000;
  /** Of the next pods' own PID namespaces; undefined for pods without one. */
  initPid: number | undefined;
  /** The current daemon's records directory; a killed daemon keeps writing to its old one. */
  stateDirectory: string;
  readonly #monitors = new Map<string, ScriptedMonitor>();
  #records: Records | undefined;
  #life: Life = { killed: false };
  #daemons = 0;
  #clock = 1_790_000_000_000_000_000n;

  private constructor(directory: string) {
    this.directory = directory;
    this.stateDirectory = join(directory, "state-0");
  }

  static async make(): Promise<ScriptedNode> {
    const directory = await mkdtemp(join(tmpdir(), "keelson-pod-"));
    await mkdir(join(directory, "cgroup"));
    await mkdir(join(directory, "run", "pods"), { recursive: true });
    return new ScriptedNode(directory);
  }

  async remove(): Promise<void> {
    await this.kill();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Starts a daemon like openPods. */
  async start(): Promise<NodePods> {
    const env = await this.#environment(this.#life);
    return new NodePods(env, this.handlers, native, await recover(env, this.handlers));
  }

  /** Like kill -9: the next daemon finds the records after all running writes have finished or hang. */
  async kill(): Promise<void> {
    this.#life.killed = true;
    await this.#endOfWrites();
    this.#life = { killed: false };
    if (vi.isFakeTimers()) vi.clearAllTimers();
    for (const monitor of this.#monitors.values()) monitor.forgetWatchers();
    this.#daemons += 1;
    const before = this.stateDirectory;
    this.stateDirectory = join(this.directory, `state-${this.#daemons}`);
    // A test may have made the records unreadable.
    await copyRecords(before, this.stateDirectory).catch(() => undefined);
  }

  /** Uses the real clock, because the test may have faked time. */
  async #endOfWrites(): Promise<void> {
    let writing = this.#records !== undefined;
    this.#records?.idle().then(() => {
      writing = false;
    });
    const until = process.hrtime.bigint() + hangingWriteNs;
    while (writing && process.hrtime.bigint() < until) await new Promise((resolve) => setImmediate(resolve));
  }

  async restart(): Promise<NodePods> {
    await this.kill();
    return await this.start();
  }

  podDirectory(id: string): string {
    return join(this.directory, "run", "pods", id);
  }

  async podDirectories(): Promise<string[]> {
    return await readdir(join(this.directory, "run", "pods"));
  }

  monitor(sandboxId: string): ScriptedMonitor {
    const monitor = this.#monitors.get(this.podDirectory(sandboxId));
    if (monitor === undefined) throw new Error(`pod ${sandboxId} never had a monitor`);
    return monitor;
  }

  /** All monitors ever spawned. */
  get monitors(): ScriptedMonitor[] {
    return [...this.#monitors.values()];
  }

  /** Adds a running monitor. */
  addMonitor(sandboxId: string): ScriptedMonitor {
    const podDirectory = this.podDirectory(sandboxId);
    const monitor = new ScriptedMonitor(this.script, podDirectory);
    this.#monitors.set(podDirectory, monitor);
    // The monitor mounts the pod's own file systems there.
    mkdirSync(join(podDirectory, "files"), { recursive: true });
    return monitor;
  }

  setClockBack(nanoseconds: bigint): void {
    this.#clock -= nanoseconds;
  }

  /** The record on disk. */
  async record(id: string): Promise<ObjectRecord | undefined> {
    return (await this.records()).find((record) => record.id === id);
  }

  /** Reads a copy, because loading records removes drafts, and the daemon may be writing one. */
  async records(): Promise<ObjectRecord[]> {
    const copy = await mkdtemp(join(this.directory, "records-"));
    await copyRecords(this.stateDirectory, copy);
    const { records } = await (await Records.open(copy)).load();
    await rm(copy, { recursive: true });
    return [...records];
  }

  async #environment(life: Life): Promise<Environment> {
    const runDirectory = join(this.directory, "run");
    const host = severed(scriptedHost(this.script), life);
    const records = await Records.open(this.stateDirectory);
    this.#records = records;
    return {
      host,
      monitors: {
        spawn: async (options) => await this.#spawn(options, life),
        connect: (podDirectory) => this.#connect(podDirectory, life),
        kill: async (podDirectory) => {
          if (life.killed) await new Promise(() => undefined);
          this.#monitors.get(podDirectory)?.dies();
        },
      },
      images: severed(this.images, life),
      network: severed(this.network, life),
      records,
      filters: new SeccompFilters(join(runDirectory, "seccomp"), host),
      accounts: new AccountFiles(host),
      cgroups: { unified: true, v2: join(this.directory, "cgroup"), v1: new Map() },
      cgroupDriver: this.cgroupDriver,
      systemd: this.systemd,
      events: new EventHub(),
      log: (level, message) => {
        if (!life.killed) this.log.push(`${level} ${message}`);
      },
      clock: () => {
        this.#clock += 1_000_000n;
        return this.#clock;
      },
      runDirectory,
      checkpointDirectory: join(this.directory, "checkpoints"),
      cgroupRoot: "/keelson",
      hostResolvConf: "/etc/resolv.conf",
      hostCapabilities: 0n,
      openFiles: undefined,
      lowestOomScore: this.lowestOomScore,
      defaultProfile: { kind: "off" },
      selinux: this.selinux,
      hostPaths: new HostPaths(host),
      relabelling: new Relabelling(host),
      throttlePaths: [],
    };
  }

  async #spawn(options: Parameters<Monitors["spawn"]>[0], life: Life): Promise<SpawnedMonitor> {
    const { podDirectory, timeoutMs, onNetwork } = options;
    const late = () => new Error(`the monitor was not ready within ${timeoutMs} ms`);
    const spawn = this.script.call(
      "monitor spawn",
      podDirectory,
      () => {
        const monitor = this.addMonitor(podDirectory.slice(podDirectory.lastIndexOf("/") + 1));
        onNetwork?.();
        return monitor;
      },
      { timeoutMs, late, cancelled: late },
    );
    const monitor = await heard(spawn, life);
    const init = this.initPid === undefined ? {} : { initPid: this.initPid };
    return { monitor: severed<Monitor>(monitor, life), pid: monitor.pid, ...init };
  }

  #connect(podDirectory: string, life: Life): Monitor {
    const monitor = this.#monitors.get(podDirectory);
    if (monitor !== undefined) return severed<Monitor>(monitor, life);
    const nobody = new ScriptedMonitor(this.script, podDirectory);
    nobody.dies();
    return severed<Monitor>(nobody, life);
  }
}

/** A daemon's view of a part: once the daemon is killed, it gets no answers, and its new calls do nothing. */
function severed<Part extends object>(part: Part, life: Life): Part {
  return new Proxy(part, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      return (...args: unknown[]): unknown => {
        if (life.killed) return new Promise(() => undefined);
        const answer: unknown = Reflect.apply(member, target, args);
        return answer instanceof Promise ? heard(answer, life) : answer;
      };
    },
  });
}

async function heard<Value>(answer: Promise<Value>, life: Life): Promise<Value> {
  try {
    return await answer;
  } finally {
    if (life.killed) await new Promise(() => undefined);
  }
}

export async function runPod(pods: NodePods, name = "p"): Promise<SandboxId> {
  return await pods.runSandbox(sandboxConfig(name), "", never);
}

/** Creates a container without starting it. */
export async function makeContainer(pods: NodePods, sandboxId: string, name = "c"): Promise<ContainerId> {
  return await pods.createContainer(sandboxId, containerConfig(name, "img", ["/bin/sleep"]), never);
}

export async function runContainer(pods: NodePods, sandboxId: string, name = "c"): Promise<ContainerId> {
  const id = await makeContainer(pods, sandboxId, name);
  await pods.startContainer(id, never);
  return id;
}

/** Collects events from now on as "started p", with names of pods and containers, without confirmations. */
export function recordEvents(pods: NodePods): string[] {
  const events: string[] = [];
  const read = async () => {
    for await (const event of pods.events(never, () => undefined)) {
      if (event.type !== "confirmed") events.push(`${event.type} ${nameOf(event)}`);
    }
  };
  void read();
  return events;
}

function nameOf({ containerId, sandbox, containers }: PodEvent): string {
  if (sandbox?.id === containerId) return sandbox.config.metadata.name;
  return containers.find(({ id }) => id === containerId)?.config.metadata.name ?? containerId.slice(0, 12);
}

/** Makes all further record writes fail, as on a full disk. */
export async function breakDisk(node: ScriptedNode): Promise<void> {
  await rm(node.stateDirectory, { recursive: true });
  await writeFile(node.stateDirectory, "");
}

/** Starts a container in a new pod, and holds the monitor's answer. */
export async function holdStart(node: ScriptedNode, pods: NodePods) {
  const id = await runPod(pods);
  const c = await makeContainer(pods, id);
  const start = node.script.hold("monitor start");
  const starting = pods.startContainer(c, never);
  starting.catch(() => undefined);
  await start.arrived;
  return { id, c, start, starting };
}
