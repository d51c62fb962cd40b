// One sandbox: its identity, its state, its monitor. It is changed by sandbox-start.ts and sandbox-stop.ts.

import { dirname, join } from "node:path";
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

export type SandboxPhase =
  /** Its start is in progress. If the daemon finds it in this state at startup, it rolls the start back. */
  | { readonly life: "starting" }
  /** The only state that is shown as ready. */
  | {
      readonly life: "ready";
      readonly monitor: Monitor;
      readonly monitorPid: number;
      readonly ips: readonly string[];
    }
  /** Its stop has begun, which is recorded before anything is torn down. `monitor` is undefined when it has exited. */
  | { readonly life: "stopping"; readonly monitor: Monitor | undefined; readonly monitorPid: number }
  | { readonly life: "stopped" };

export type SandboxLife = SandboxPhase["life"];

export interface SandboxIdentity {
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  readonly handler: RuntimeHandler;
  readonly createdAt: bigint;
  /** `/run/keelson/pods/<id>`; PROTOCOL.md describes its contents. */
  readonly podDirectory: string;
  /** Where its network namespace is pinned; empty with the host's. Absent in pods of an older keelson. */
  readonly netnsPath?: string;
  readonly cgroup: string;
  readonly hostname: string;
  /** SELinux labels; absent without SELinux, and in pods of an older keelson. */
  readonly labels?: PodLabels;
}

export class Sandbox {
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  readonly handler: RuntimeHandler;
  readonly createdAt: bigint;
  readonly podDirectory: string;
  readonly netnsPath: string;
  readonly cgroup: string;
  readonly hostname: string;
  readonly labels: PodLabels | undefined;
  readonly queue = new PodQueue();
  readonly containers = new Map<string, Container>();
  /** Aborts the watch on the monitor. */
  readonly watch = new AbortController();

  /** Hidden from lists until its start is done and claimed by a caller. */
  visible = false;
  #phase: SandboxPhase = { life: "starting" };
  #leftovers: readonly string[] = [];
  /** Updated resources; those of the original request are in the config. */
  resources: SandboxResources = {};
  #timeline: readonly Stage[] = [];
  #view: SandboxView | undefined;

  constructor(identity: SandboxIdentity) {
    this.id = identity.id;
    this.config = identity.config;
    this.handler = identity.handler;
    this.createdAt = identity.createdAt;
    this.podDirectory = identity.podDirectory;
    this.netnsPath = identity.netnsPath ?? (this.ownNetwork ? join(this.podDirectory, "ns/net") : "");
    this.cgroup = identity.cgroup;
    this.hostname = identity.hostname;
    this.labels = identity.labels;
  }

  /** The same for a request and its retry. */
  get key(): string {
    return sandboxKey(this.config);
  }

  get phase(): SandboxPhase {
    return this.#phase;
  }

  get life(): SandboxLife {
    return this.#phase.life;
  }

  get ready(): boolean {
    return this.#phase.life === "ready";
  }

  get monitor(): Monitor | undefined {
    return "monitor" in this.#phase ? this.#phase.monitor : undefined;
  }

  /** 0 without one. */
  get monitorPid(): number {
    return "monitorPid" in this.#phase ? this.#phase.monitorPid : 0;
  }

  get ips(): readonly string[] {
    return "ips" in this.#phase ? this.#phase.ips : [];
  }

  get ownNetwork(): boolean {
    return this.config.security.namespaces.network !== "node";
  }

  get ownsCgroup(): boolean {
    return this.cgroup !== this.config.cgroupParent;
  }

  get leftovers(): readonly string[] {
    return this.#leftovers;
  }

  get timeline(): readonly Stage[] {
    return this.#timeline;
  }

  setPhase(phase: SandboxPhase): void {
    this.#phase = phase;
    this.#view = undefined;
  }

  setTimeline(timeline: readonly Stage[]): void {
    this.#timeline = timeline;
    this.#view = undefined;
  }

  setLeftovers(leftovers: readonly string[]): void {
    this.#leftovers = leftovers;
    this.#view = undefined;
  }

  /** Returns the same object until something changes. */
  view(): SandboxView {
    this.#view ??= {
      id: this.id,
      config: this.config,
      state: this.ready ? "ready" : "not-ready",
      createdAt: this.createdAt,
      runtimeHandler: this.handler.name,
      ips: this.ips,
      netnsPath: this.netnsPath,
      monitorPid: this.monitorPid,
      leftovers: this.#leftovers,
      timeline: this.#timeline,
    };
    return this.#view;
  }

  /** The parts of a container's spec that come from its sandbox. */
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
        ...(network === "node" ? {} : { network: this.netnsPath, uts: pin("uts") }),
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

/** The sandboxes of the same pod: when a sandbox dies, the kubelet creates a new one with the next attempt number. */
export function samePod({ metadata }: SandboxConfig, sandboxes: Iterable<Sandbox>): Sandbox[] {
  const { name, namespace, uid } = metadata;
  return [...sandboxes].filter(
    ({ config: { metadata: other } }) => other.uid === uid && other.name === name && other.namespace === namespace,
  );
}

/**
 * The directory in which pods' network namespaces are pinned, beside the run directory: `/run/netns`, where ip-netns(8)
 * and the pods of network agents look for them.
 */
export function netnsDirectory(runDirectory: string): string {
  return join(dirname(runDirectory), "netns");
}

export function sandboxFiles(podDirectory: string): SandboxSetup["files"] {
  return {
    resolvConf: join(podDirectory, "files/resolv.conf"),
    hostname: join(podDirectory, "files/hostname"),
    shm: join(podDirectory, "shm"),
  };
}
