// One sandbox: its identity, its state, its monitor. What changes it stands in sandbox-start.ts and sandbox-stop.ts.

import { join } from "node:path";
import type { Monitor } from "../native/index.ts";
import type { Container } from "./container.ts";
import type { RuntimeHandler } from "./handlers.ts";
import { PodQueue } from "./queue.ts";
import type { SandboxSetup } from "./spec/build.ts";
import type { PodLabels } from "./spec/selinux.ts";
import type { SandboxConfig, SandboxId, SandboxResources, SandboxView } from "./types.ts";
import { userMappings } from "./user-namespace.ts";

export interface Stage {
  readonly stage: string;
  readonly milliseconds: number;
}

/**
 * `starting`: its start has begun and is not done; found at a start of the daemon, it is unmade. `stopping`: its
 * stop has begun, and it is on record before anything is taken down. Only `ready` ones are shown as such.
 */
export type SandboxLife = "starting" | "ready" | "stopping" | "stopped";

export interface SandboxIdentity {
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  readonly handler: RuntimeHandler;
  readonly createdAt: bigint;
  /** `/run/keelson/pods/<id>`; PROTOCOL.md tells what is in it. */
  readonly podDirectory: string;
  readonly cgroup: string;
  readonly hostname: string;
  /** SELinux's; absent without it, and of a pod of an older keelson. */
  readonly labels?: PodLabels;
}

export class Sandbox {
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  readonly handler: RuntimeHandler;
  readonly createdAt: bigint;
  readonly podDirectory: string;
  readonly cgroup: string;
  readonly hostname: string;
  readonly labels: PodLabels | undefined;
  readonly queue = new PodQueue();
  readonly containers = new Map<string, Container>();
  /** Ends the watch over the monitor. */
  readonly watch = new AbortController();

  /** Hidden from lists until its start is done and claimed by a caller. */
  visible = false;
  #life: SandboxLife = "starting";
  #monitor: Monitor | undefined;
  #monitorPid = 0;
  #ips: readonly string[] = [];
  #leftovers: readonly string[] = [];
  /** As updated; the request's own are in the config. */
  resources: SandboxResources = {};
  #timeline: readonly Stage[] = [];
  #view: SandboxView | undefined;

  constructor(identity: SandboxIdentity) {
    this.id = identity.id;
    this.config = identity.config;
    this.handler = identity.handler;
    this.createdAt = identity.createdAt;
    this.podDirectory = identity.podDirectory;
    this.cgroup = identity.cgroup;
    this.hostname = identity.hostname;
    this.labels = identity.labels;
  }

  /** Equal for a request and its retry. */
  get key(): string {
    return sandboxKey(this.config);
  }

  get monitor(): Monitor | undefined {
    return this.#monitor;
  }

  get monitorPid(): number {
    return this.#monitorPid;
  }

  get life(): SandboxLife {
    return this.#life;
  }

  get ready(): boolean {
    return this.#life === "ready";
  }

  get ownNetwork(): boolean {
    return this.config.security.namespaces.network !== "node";
  }

  get ownsCgroup(): boolean {
    return this.cgroup !== this.config.cgroupParent;
  }

  get netnsPath(): string {
    return this.ownNetwork ? join(this.podDirectory, "ns/net") : "";
  }

  get ips(): readonly string[] {
    return this.#ips;
  }

  get leftovers(): readonly string[] {
    return this.#leftovers;
  }

  get timeline(): readonly Stage[] {
    return this.#timeline;
  }

  becomeReady(monitor: Monitor, monitorPid: number, ips: readonly string[], timeline: readonly Stage[]): void {
    this.#life = "ready";
    this.#monitor = monitor;
    this.#monitorPid = monitorPid;
    this.#ips = ips;
    this.#timeline = timeline;
    this.#view = undefined;
  }

  /** Its start failed: what it made is being taken back. */
  becomeUnmade(): void {
    this.#life = "starting";
    this.#monitor = undefined;
    this.#monitorPid = 0;
    this.#ips = [];
    this.#view = undefined;
  }

  /** Nothing new begins in it, and its addresses are not its own any more. The monitor is still needed. */
  becomeStopping(): void {
    this.#life = "stopping";
    this.#ips = [];
    this.#view = undefined;
  }

  /** As `becomeStopping`, of a pod found at a start; `monitor` is absent when it has ended. */
  resumeStopping(monitor: Monitor | undefined, monitorPid: number): void {
    this.becomeStopping();
    this.#monitor = monitor;
    this.#monitorPid = monitorPid;
  }

  becomeStopped(): void {
    this.#life = "stopped";
    this.#monitor = undefined;
    this.#monitorPid = 0;
    this.#ips = [];
    this.#view = undefined;
  }

  setLeftovers(leftovers: readonly string[]): void {
    this.#leftovers = leftovers;
    this.#view = undefined;
  }

  /** The same object until something changes. */
  view(): SandboxView {
    this.#view ??= {
      id: this.id,
      config: this.config,
      state: this.ready ? "ready" : "not-ready",
      createdAt: this.createdAt,
      runtimeHandler: this.handler.name,
      ips: this.#ips,
      netnsPath: this.netnsPath,
      monitorPid: this.#monitorPid,
      leftovers: this.#leftovers,
      timeline: this.#timeline,
    };
    return this.#view;
  }

  /** What a container's spec takes from its sandbox. */
  setup(): SandboxSetup {
    const { namespaces } = this.config.security;
    const { network, pid, ipc } = namespaces;
    const user = userMappings(namespaces);
    const pin = (name: string) => join(this.podDirectory, "ns", name);
    return {
      id: this.id,
      config: this.config,
      files: sandboxFiles(this.podDirectory),
      pinned: {
        ...(network === "node" ? {} : { network: pin("net"), uts: pin("uts") }),
        ...(ipc === "node" ? {} : { ipc: pin("ipc") }),
        ...(pid === "pod" ? { pid: pin("pid") } : {}),
        ...(user === undefined ? {} : { user: pin("user") }),
      },
      ...(user === undefined ? {} : { user }),
      cgroup: this.cgroup,
      hostname: this.hostname,
    };
  }
}

export function sandboxKey(config: SandboxConfig): string {
  const { name, namespace, uid, attempt } = config.metadata;
  return JSON.stringify([name, namespace, uid, attempt]);
}

export function sandboxFiles(podDirectory: string): SandboxSetup["files"] {
  return {
    resolvConf: join(podDirectory, "files/resolv.conf"),
    hostname: join(podDirectory, "files/hostname"),
    shm: join(podDirectory, "shm"),
  };
}
