// `keelson check`: whether this host can run pods, and how to fix what is missing.

import { closeSync } from "node:fs";
import { readdir, readFile, statfs } from "node:fs/promises";
import { release } from "node:os";
import { dirname, join } from "node:path";
import { missingPlugins } from "../../cni/chain.ts";
import { loadConfig as loadNetworkConfig } from "../../cni/config.ts";
import { type NetworkLeftover, networkLeftovers } from "../../cni/leftovers.ts";
import {
  detectCgroups,
  firstLine,
  isErrno,
  loadHost,
  type NativePaths,
  nativePaths,
  runProgram,
} from "../../native/index.ts";
import { chooseCgroupDriver } from "../../pod/cgroup-driver.ts";
import { findCriu } from "../../pod/checkpoint/criu.ts";
import { openHandlers } from "../../pod/handlers.ts";
import { isKernelAtLeast } from "../../pod/kernel-release.ts";
import { readRecords } from "../../pod/records.ts";
import { apparmorIsOn } from "../../pod/spec/apparmor-default.ts";
import { capabilitiesIn } from "../../pod/spec/capabilities.ts";
import { labelText } from "../../pod/spec/selinux-label.ts";
import { readSelinux, type Selinux } from "../../pod/spec/selinux-policy.ts";
import type { Config } from "./config.ts";

export interface Finding {
  readonly subject: string;
  readonly verdict: "ok" | "warn" | "fail";
  readonly detail: string;
  /** What to do; empty if no action is needed. */
  readonly remedy: string;
}

const criuMs = 10_000;
const programMs = 5_000;

type Check = (config: Config) => Promise<Finding>;

/** Runs every check; one that throws counts as failed. */
export async function checkHost(config: Config): Promise<Finding[]> {
  const named: readonly (readonly [string, Check])[] = [
    ["root", async () => checkRoot(process.getuid?.() ?? -1)],
    ["capabilities", checkCapabilities],
    ["kernel", async () => checkKernel(release())],
    ["system calls", async () => checkSystemCalls(await readFile("/proc/kallsyms", "utf8"))],
    ["overlayfs", checkOverlayfs],
    ["namespaces", async () => checkNamespaces(await readdir("/proc/self/ns"))],
    ["seccomp", checkSeccomp],
    ["AppArmor", checkApparmor],
    ["SELinux", async () => checkSelinux(await readSelinux())],
    ["cgroups", checkCgroups],
    ["cgroup driver", checkCgroupDriver],
    ["native programs", async () => checkPrograms(nativePaths())],
    ["network", checkNetwork],
    ["network leftovers", async ({ root }) => checkLeftovers(await networkLeftovers(root))],
    ["records", checkRecords],
    ["handlers", checkHandlers],
    ["checkpoints", checkCheckpoints],
  ];
  return await Promise.all(
    named.map(([subject, check]) =>
      check(config).catch((error: unknown) => fail(subject, firstLine(error), "Fix what the message names.")),
    ),
  );
}

/** One line per finding, with its remedy below it. */
export function printFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ subject }) => subject.length));
  return findings
    .map(({ subject, verdict, detail, remedy }) => {
      const line = `${verdict.padEnd(4)}  ${subject.padEnd(width)}  ${detail}`;
      return remedy === "" ? line : `${line}\n      ${" ".repeat(width)}  → ${remedy}`;
    })
    .join("\n");
}

export function checkRoot(uid: number): Finding {
  if (uid === 0) return ok("root", "uid 0");
  return fail("root", `uid ${uid}`, "Run Keelson as root: it creates namespaces, mounts and cgroups.");
}

/** The capabilities needed to unpack images and set up containers. */
const neededCapabilities = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
  "CAP_NET_ADMIN",
  "CAP_SYS_CHROOT",
  "CAP_SYS_PTRACE",
  "CAP_SYS_ADMIN",
  "CAP_MKNOD",
  "CAP_SETFCAP",
] as const;

async function checkCapabilities(): Promise<Finding> {
  const present = capabilitiesIn(loadHost().hostCapabilities());
  const missing = neededCapabilities.filter((name) => !present.has(name));
  if (missing.length > 0) {
    return fail(
      "capabilities",
      `missing ${missing.join(", ")}`,
      "Start Keelson where root has them, not in a container.",
    );
  }
  if (present.has("CAP_SYS_RESOURCE")) return ok("capabilities", "all required ones present");
  return warn(
    "capabilities",
    "no CAP_SYS_RESOURCE",
    "oom_score_adj cannot be lowered below 0, and hard limits cannot be raised. Grant it if pods rely on that.",
  );
}

/**
 * 5.12 is the first kernel with all `neededCalls` (mount_setattr is the newest). Mapped layers need 6.7 (lowerdir+).
 */
export function checkKernel(kernelRelease: string): Finding {
  if (isKernelAtLeast(kernelRelease, "6.7")) return ok("kernel", `Linux ${kernelRelease}`);
  if (isKernelAtLeast(kernelRelease, "5.12")) {
    return warn("kernel", `Linux ${kernelRelease}`, "Pods with user namespaces (hostUsers: false) need 6.7 or newer.");
  }
  return fail("kernel", `Linux ${kernelRelease}`, "Install a kernel of 5.12 or newer.");
}

/** The monitor has no fallback for these. */
const neededCalls = [
  "openat2",
  "clone3",
  "pidfd_open",
  "fsopen",
  "move_mount",
  "open_tree",
  "close_range",
  "mount_setattr",
];

/** System calls appear in the kernel's symbols as __x64_sys_openat2, __arm64_sys_openat2 … */
export function checkSystemCalls(kernelSymbols: string): Finding {
  const missing = neededCalls.filter((name) => !kernelSymbols.includes(`_sys_${name}\n`));
  if (missing.length === 0) return ok("system calls", neededCalls.join(", "));
  return fail("system calls", `missing ${missing.join(", ")}`, "Install a kernel of 5.12 or newer.");
}

/**
 * File systems that cannot hold a container's writable layer, by their type in statfs(2): overlayfs needs trusted.*
 * attributes and d_type in directory entries there (overlayfs.rst, "Upper and Lower").
 */
const unfitForLayers: ReadonlyMap<number, string> = new Map([
  [0x794c7630, "overlayfs"],
  [0x6969, "NFS"],
  [0xff534d42, "CIFS"],
  [0xfe534d42, "SMB"],
  [0x4d44, "FAT"],
  [0x2011bab0, "exFAT"],
]);

async function checkOverlayfs({ root }: Config): Promise<Finding> {
  return checkOverlay(await readFile("/proc/filesystems", "utf8"), root, unfitForLayers.get(await fileSystemOf(root)));
}

/** The file system of a directory that may not exist yet. */
async function fileSystemOf(directory: string): Promise<number> {
  try {
    return (await statfs(directory)).type;
  } catch (error) {
    if (directory === "/" || !isErrno(error, "ENOENT")) throw error;
    return await fileSystemOf(dirname(directory));
  }
}

/** `unfit`: the name of the root directory's file system if it cannot hold a writable layer. */
export function checkOverlay(fileSystems: string, root: string, unfit: string | undefined): Finding {
  if (!/\toverlay$/m.test(fileSystems)) {
    return fail(
      "overlayfs",
      "not supported by the running kernel",
      "Load its module (modprobe overlay), also at boot (/etc/modules-load.d).",
    );
  }
  if (unfit === undefined) return ok("overlayfs", "supported by the kernel");
  return fail(
    "overlayfs",
    `cannot keep writable layers in ${root} on ${unfit}`,
    "Set root to a directory on a local disk (ext4, XFS, Btrfs); until then no container can start.",
  );
}

export function checkNamespaces(names: readonly string[]): Finding {
  const missing = ["mnt", "pid", "net", "ipc", "uts"].filter((name) => !names.includes(name));
  if (missing.length > 0) return fail("namespaces", `missing ${missing.join(", ")}`, "Use a kernel built with them.");
  if (names.includes("user")) return ok("namespaces", "mnt, pid, net, ipc, uts, user");
  return warn("namespaces", "no user namespaces", "Pods with hostUsers: false need CONFIG_USER_NS.");
}

async function checkSeccomp(): Promise<Finding> {
  const actions = await readFile("/proc/sys/kernel/seccomp/actions_avail", "utf8").catch(() => "");
  if (actions.includes("errno")) return ok("seccomp", actions.trim());
  return fail("seccomp", "filters are not available", "Use a kernel with CONFIG_SECCOMP_FILTER.");
}

async function checkApparmor(): Promise<Finding> {
  if (!(await apparmorIsOn())) return ok("AppArmor", "not enabled");
  const signal = AbortSignal.timeout(programMs);
  const version = await runProgram("apparmor_parser", ["--version"], signal, { stdout: { limit: 4096 } }).then(
    ({ stdout }) => stdout.split("\n")[0] ?? "",
    () => undefined,
  );
  if (version !== undefined) return ok("AppArmor", `enabled, with ${version}`);
  return warn(
    "AppArmor",
    "enabled, but apparmor_parser, which loads the default profile, is not installed",
    "Install it (Debian: apparmor); until then containers that do not name a profile run without one.",
  );
}

export function checkSelinux(selinux: Selinux): Finding {
  switch (selinux.kind) {
    case "off":
      return ok("SELinux", "not active");
    case "unlabelled":
      return warn(
        "SELinux",
        `active, but containers run unlabelled: ${selinux.reason}`,
        "Install a policy for containers (Fedora: container-selinux, Debian: selinux-policy-default).",
      );
    case "on": {
      const apart = selinux.hasCategories ? "with separate categories for each pod" : "the same for all pods";
      return ok("SELinux", `active; containers run as ${labelText(selinux.process)}, ${apart}`);
    }
  }
}

async function checkCgroups(): Promise<Finding> {
  const tree = await detectCgroups();
  const wanted = ["cpu", "cpuset", "memory", "pids"];
  const controllers = tree.unified
    ? (await readFile(`${tree.v2}/cgroup.controllers`, "utf8")).trim().split(" ")
    : [...tree.v1.keys()];
  const missing = wanted.filter((name) => !controllers.includes(name));
  const version = tree.unified ? "v2" : "v1";
  if (missing.length > 0) {
    return fail(
      "cgroups",
      `${version} without ${missing.join(", ")}`,
      "Enable them on the kernel's command line (cgroup_enable=).",
    );
  }
  if (tree.unified) return ok("cgroups", `v2 with ${controllers.join(", ")}`);
  return warn(
    "cgroups",
    `v1 with ${controllers.filter((name) => wanted.includes(name)).join(", ")}`,
    "It works, but v2 can kill whole cgroups, and Kubernetes expects it (systemd.unified_cgroup_hierarchy=1).",
  );
}

async function checkCgroupDriver({ cgroupDriver, cgroupRoot }: Config): Promise<Finding> {
  const driver = await chooseCgroupDriver(cgroupDriver, cgroupRoot);
  return ok("cgroup driver", `${driver}, which the kubelet adopts`);
}

/** Runs each program: a shared library that its loader cannot find is not detectable otherwise. */
export async function checkPrograms({ monitor, unpacker }: NativePaths): Promise<Finding> {
  const versions = [];
  for (const file of [monitor, unpacker]) {
    const signal = AbortSignal.timeout(programMs);
    // With an empty environment, as the daemon runs the unpacker.
    const end = await runProgram(file, ["--version"], signal, { env: {}, stdout: { limit: 1024 } }).catch(
      (error: unknown) => firstLine(error),
    );
    if (typeof end === "string") {
      return fail(
        "native programs",
        `${file} does not run: ${end}`,
        "Install the package again, or build them here: npm run build:native.",
      );
    }
    if (end.code !== 0) {
      const detail = `${file} does not run: ${end.stderr.trim() || `it exited with ${end.code ?? end.signal}`}`;
      const remedy = "Install the missing library (Debian: libisal2), or build them here: npm run build:native.";
      return fail("native programs", detail, remedy);
    }
    versions.push(end.stdout.trim());
  }
  const refusal = await loadHost().sealedCopy(monitor).then(closeSync, firstLine);
  if (refusal !== undefined) {
    const detail = `${monitor} cannot be executed from a sealed memfd: ${refusal}`;
    const isForbidden = (await readFile("/proc/sys/vm/memfd_noexec", "utf8").catch(() => "")).trim() === "2";
    const remedy = isForbidden
      ? "Set the sysctl vm.memfd_noexec to 0 or 1."
      : "Remove the limit or the shortage that the message names; the daemon copies its monitor to memory at its start.";
    return fail("native programs", detail, remedy);
  }
  return ok("native programs", versions.join(", "));
}

async function checkNetwork({ cniConfDir, cniBinDirs }: Config): Promise<Finding> {
  const loaded = await loadNetworkConfig(cniConfDir);
  if (loaded.kind === "none") {
    return warn(
      "network",
      loaded.reason,
      "Install a network (a .conflist); until then only pods on the host network can run.",
    );
  }
  const missing = missingPlugins({ network: loaded.network, binDirs: cniBinDirs });
  if (missing.length === 0) return ok("network", `${loaded.network.name} (${loaded.path})`);
  return fail(
    "network",
    `${loaded.network.name} needs ${missing.join(", ")}, not found in ${cniBinDirs.join(", ")}`,
    "Install the plugins (Debian: containernetworking-plugins), or fix cni.bin_dirs.",
  );
}

/** What plugins could not remove after their pods were removed. */
export function checkLeftovers(leftovers: readonly NetworkLeftover[]): Finding {
  if (leftovers.length === 0) return ok("network leftovers", "none");
  const givenUp = leftovers.filter((leftover) => leftover.givenUp);
  const detail = leftovers.map(describeLeftover).join("; ");
  if (givenUp.length === 0)
    return warn("network leftovers", detail, "keelson serve retries; fix what its plugins report.");
  const files = givenUp.map(({ file }) => file).join(" ");
  return warn("network leftovers", detail, `Remove what is left manually, then ${files}, and restart keelson serve.`);
}

function describeLeftover(leftover: NetworkLeftover): string {
  const { pod, sandboxId, plugins, network, interfaceName, addresses, reason, givenUp } = leftover;
  const what = [`the interface ${interfaceName}`, ...addresses.map((address) => `the address ${address}`)];
  const how = givenUp ? "was given up" : "is retried";
  return `pod ${pod} (${sandboxId}): DEL of ${plugins.join(", ")} in network ${network} ${how}: ${reason} May be left: ${what.join(", ")} and its rules`;
}

/** Damaged records are the daemon's to report: it may be writing one at the moment. */
export async function checkRecords({ root }: Pick<Config, "root">): Promise<Finding> {
  const { unreadable } = await readRecords(join(root, "state")).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return { unreadable: [] };
    throw error;
  });
  const [first] = unreadable;
  if (first === undefined) return ok("records", "all readable");
  return warn(
    "records",
    `${unreadable.length} of pods and containers cannot be read, for example ${first.name}: ${first.reason}`,
    "Their pods run on untouched. If a newer keelson wrote them, upgrade again, and drain the node before a downgrade.",
  );
}

async function checkHandlers({ handlers, defaultHandler }: Config): Promise<Finding> {
  if (defaultHandler !== "native" && !handlers.has(defaultHandler)) {
    return fail(
      "handlers",
      `the default handler ${defaultHandler} is not configured`,
      "Add it under [runtime.handlers].",
    );
  }
  const opened = await openHandlers(handlers, () => undefined);
  for (const handler of opened.values()) {
    const refusal = await handler.check().then(
      () => undefined,
      (error: unknown) => firstLine(error),
    );
    if (refusal !== undefined)
      return fail("handlers", refusal, "Fix this; until then pods with this handler cannot start.");
  }
  return ok("handlers", ["native", ...handlers.keys()].join(", "));
}

async function checkCheckpoints(): Promise<Finding> {
  const criu = await findCriu(AbortSignal.timeout(criuMs));
  if ("version" in criu) return ok("checkpoints", `criu ${criu.version}`);
  return warn(
    "checkpoints",
    criu.reason,
    "Only CheckpointContainer needs it: install a CRIU that supports this kernel.",
  );
}

function ok(subject: string, detail: string): Finding {
  return { subject, verdict: "ok", detail, remedy: "" };
}

function warn(subject: string, detail: string, remedy: string): Finding {
  return { subject, verdict: "warn", detail, remedy };
}

function fail(subject: string, detail: string, remedy: string): Finding {
  return { subject, verdict: "fail", detail, remedy };
}
