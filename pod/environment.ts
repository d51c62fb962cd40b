// What the pod model works with; put together once by openPods and passed to whoever needs it.

import type { Network } from "../cni/types.ts";
import type { ImageStore } from "../image/types.ts";
import type { CgroupTree, Host, Log, Monitor, SpawnedMonitor, SpawnOptions } from "../native/index.ts";
import type { CgroupDriver } from "./cgroup-driver.ts";
import type { EventHub } from "./events.ts";
import type { Records } from "./records.ts";
import type { AccountFiles } from "./spec/account-files.ts";
import type { NodeSetup } from "./spec/build.ts";
import type { HostPaths } from "./spec/host-paths.ts";
import type { Relabelling } from "./spec/relabel.ts";
import type { Selinux } from "./spec/selinux-policy.ts";
import type { Systemd } from "./systemd/units.ts";

/** The monitors of pods: where a new one comes from, the way to one that runs, and its end by force. */
export interface Monitors {
  /** As `spawnMonitor` of native/. */
  spawn(options: Omit<SpawnOptions, "forkServer">): Promise<SpawnedMonitor>;
  connect(podDirectory: string): Monitor;
  /** As `killMonitor` of monitor-process.ts. */
  kill(podDirectory: string, pid: number): Promise<void>;
}

export interface Environment extends NodeSetup {
  readonly host: Host;
  readonly monitors: Monitors;
  readonly images: ImageStore;
  readonly network: Network;
  readonly records: Records;
  readonly accounts: AccountFiles;
  readonly cgroups: CgroupTree;
  readonly cgroupDriver: CgroupDriver;
  /** Where it is PID 1, whatever the driver. */
  readonly systemd: Pick<Systemd, "startScope" | "joinScope" | "close"> | undefined;
  readonly events: EventHub;
  readonly log: Log;
  /** Nanoseconds since the epoch. */
  readonly clock: () => bigint;
  /** `/run/keelson`: volatile. */
  readonly runDirectory: string;
  /** Where checkpoints are made, a directory for each container; durable. */
  readonly checkpointDirectory: string;
  /** Where pods without a cgroup_parent have their cgroup, cgroupfs form; the systemd driver makes a slice of it. */
  readonly cgroupRoot: string;
  readonly hostResolvConf: string;
  readonly selinux: Selinux;
  readonly hostPaths: HostPaths;
  readonly relabelling: Relabelling;
}

/** Time limits in milliseconds. Some that one file alone has stand in that file. */
export const limits = {
  /** A short message to a monitor that answers from memory. */
  call: 5_000,
  monitorStart: 10_000,
  containerStart: 60_000,
  /** Until an exec's process runs; how long it may run is the request's to say. */
  execStart: 30_000,
  /** All of a sandbox's start, network included. */
  sandboxStart: 240_000,
  /** What a monitor may take to kill and clear a whole pod. */
  shutdown: 20_000,
  /** One undo step; a network's teardown has its own budget inside. */
  undo: 90_000,
  /** How long criu may take to break off by itself when the daemon is told to end. */
  breakOff: 500,
  /** How long a request waits for its turn in the pod's queue. */
  queue: 120_000,
  /** A finished create that nobody asked for again. */
  unclaimed: 120_000,
} as const;
