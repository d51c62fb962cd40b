// The dependencies of the pod model, assembled once by openPods.

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

/** Pod monitors: spawning a new one, connecting to a running one, and killing one. */
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
  /** Set where systemd is PID 1, regardless of the cgroup driver. */
  readonly systemd: Pick<Systemd, "startScope" | "joinScope" | "close"> | undefined;
  readonly events: EventHub;
  readonly log: Log;
  /** Nanoseconds since the epoch. */
  readonly clock: () => bigint;
  /** `/run/keelson`; volatile. */
  readonly runDirectory: string;
  /** Scratch space for checkpoints, one directory per container; persistent. */
  readonly checkpointDirectory: string;
  /** Parent cgroup of pods without a cgroup_parent, in cgroupfs form; the systemd driver converts it to a slice. */
  readonly cgroupRoot: string;
  readonly hostResolvConf: string;
  readonly selinux: Selinux;
  readonly hostPaths: HostPaths;
  readonly relabelling: Relabelling;
}

/** Time limits in milliseconds. Limits that only one file uses are in that file. */
export const limits = {
  /** A short message to a monitor that answers from memory. */
  call: 5_000,
  monitorStart: 10_000,
  containerStart: 60_000,
  /** Until an exec's process runs; the request limits how long it may run. */
  execStart: 30_000,
  /** The whole start of a sandbox, including the network. */
  sandboxStart: 240_000,
  /** How long a monitor may take to kill and clean up a whole pod. */
  shutdown: 20_000,
  /** One undo step; a network's teardown has its own budget inside. */
  undo: 90_000,
  /** How long criu may take to abort by itself when the daemon shuts down. */
  breakOff: 500,
  /** How long a request waits for its turn in the pod's queue. */
  queue: 120_000,
  /** How long a sandbox whose callers all gave up waits for a retry before it is removed. */
  unclaimed: 120_000,
} as const;
