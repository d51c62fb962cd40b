// The public interface of the pod model: openPods and its types.

import { mkdir, realpath } from "node:fs/promises";
import { join } from "node:path";
import type { Network } from "../cni/types.ts";
import type { ImageStore } from "../image/types.ts";
import {
  connectMonitor,
  detectCgroups,
  type Host,
  type Log,
  MonitorForkServer,
  messageOf,
  spawnMonitor,
} from "../native/index.ts";
import { type CgroupDriver, isBootedBySystemd } from "./cgroup-driver.ts";
import { systemdRoot } from "./cgroups.ts";
import type { Environment } from "./environment.ts";
import { podErrors } from "./errors.ts";
import { EventHub } from "./events.ts";
import { openHandlers } from "./handlers.ts";
import { killMonitor } from "./monitor-process.ts";
import { NodePods } from "./pods.ts";
import { Records } from "./records.ts";
import { recover } from "./recovery.ts";
import { AccountFiles } from "./spec/account-files.ts";
import { loadDefaultProfile } from "./spec/apparmor-default.ts";
import type { OpenFilesLimit } from "./spec/build.ts";
import { HostPaths } from "./spec/host-paths.ts";
import { throttlePaths } from "./spec/masking.ts";
import { lowestOomScore } from "./spec/oom-score.ts";
import { Relabelling } from "./spec/relabel.ts";
import { SeccompFilters } from "./spec/seccomp.ts";
import { readSelinux, unfitLabel } from "./spec/selinux-policy.ts";
import { Systemd } from "./systemd/units.ts";
import type { Pods } from "./types.ts";

export { type CgroupDriver, chooseCgroupDriver } from "./cgroup-driver.ts";
export { podErrors } from "./errors.ts";
export type { OpenFilesLimit } from "./spec/build.ts";
export type * from "./types.ts";

export interface PodOptions {
  readonly host: Host;
  readonly images: ImageStore;
  readonly network: Network;
  readonly log: Log;
  /** Persistent, e.g. /var/lib/keelson. */
  readonly root: string;
  /** Volatile, e.g. /run/keelson: empty after a reboot. */
  readonly runDirectory: string;
  /** cgroupfs form, e.g. /keelson. */
  readonly cgroupRoot: string;
  readonly cgroupDriver: CgroupDriver;
  readonly hostResolvConf: string;
  /** The keelson-monitor executable. */
  readonly monitorPath: string;
  /** OCI runtime binaries by handler name. The handler "native" always exists. */
  readonly ociHandlers: ReadonlyMap<string, string>;
  readonly defaultHandler: string;
  /** RLIMIT_NOFILE of container processes; undefined: this process's own. */
  readonly openFiles: OpenFilesLimit | undefined;
  /** Nanoseconds since the epoch. */
  readonly clock: () => bigint;
}

/** Recovers the pods of a previous daemon; usable once it resolves. Cleanup of leftovers waits for `tidy`. */
export async function openPods(options: PodOptions): Promise<Pods> {
  const { host, images, network, log, clock, cgroupRoot, hostResolvConf } = options;
  await mkdir(options.runDirectory, { recursive: true, mode: 0o711 });
  // The monitor follows no symlinks in the paths that it mounts and writes.
  const runDirectory = await realpath(options.runDirectory);
  const executableFd = await host.sealedCopy(options.monitorPath);
  const emptyMountsFd = await host.emptyMountNamespace();
  const forkServer = new MonitorForkServer({ executableFd, emptyMountsFd, podsDirectory: join(runDirectory, "pods") });
  const hostCapabilities = host.hostCapabilities();
  // Runs apparmor_parser briefly, in parallel with the disk reads below.
  const loadingProfile = loadDefaultProfile();
  const cgroups = await detectCgroups();
  const env: Environment = {
    host,
    monitors: {
      spawn: (options) => spawnMonitor({ forkServer, ...options }),
      connect: connectMonitor,
      kill: killMonitor,
    },
    images,
    network,
    log,
    clock,
    runDirectory,
    cgroupRoot,
    hostResolvConf,
    checkpointDirectory: join(options.root, "checkpoints"),
    records: await Records.open(join(options.root, "state")),
    filters: new SeccompFilters(join(runDirectory, "seccomp"), host),
    accounts: new AccountFiles(host),
    cgroups,
    cgroupDriver: options.cgroupDriver,
    systemd: (await isBootedBySystemd()) ? new Systemd(systemdRoot(cgroups)) : undefined,
    events: new EventHub(),
    hostCapabilities,
    openFiles: options.openFiles,
    lowestOomScore: await lowestOomScore(hostCapabilities),
    defaultProfile: await loadingProfile,
    selinux: await readSelinux(),
    hostPaths: new HostPaths(host),
    relabelling: new Relabelling(host),
    throttlePaths: await throttlePaths(),
  };
  if (env.defaultProfile.kind === "missing") {
    log("warn", `containers without an explicit AppArmor profile run unconfined: ${env.defaultProfile.reason}`);
  }
  if (env.selinux.kind === "unlabelled") {
    log("warn", `SELinux is active, but containers run without SELinux labels: ${env.selinux.reason}`);
  }
  const unfit = env.selinux.kind === "on" ? await unfitLabel(env.selinux) : undefined;
  if (unfit !== undefined) {
    const remedy = "install Keelson's policy module keelson.cil and relabel its files with restorecon";
    log(
      "warn",
      `when enforcing, the SELinux policy does not let a daemon labelled ${unfit} start containers: ${remedy} (see the README)`,
    );
  }
  const handlers = await openHandlers(options.ociHandlers, log);
  const fallback = handlers.get(options.defaultHandler);
  if (fallback === undefined) {
    throw podErrors.handlerUnknown({ handler: options.defaultHandler, known: [...handlers.keys()].join(", ") });
  }
  await fallback.check().catch((error: unknown) => {
    const reason = messageOf(error);
    throw podErrors.defaultHandlerUnusable({ handler: options.defaultHandler, reason }, error);
  });
  return new NodePods(env, handlers, fallback, await recover(env, handlers));
}
