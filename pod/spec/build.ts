// Builds the OCI runtime spec of a CRI container from all its parts.

import type { Image } from "../../image/types.ts";
import { podErrors } from "../errors.ts";
import type { ContainerConfig, IdMappings, SandboxConfig, SandboxId } from "../types.ts";
import { ociMappings } from "../user-namespace.ts";
import type { Account } from "./accounts.ts";
import { apparmorFor } from "./apparmor.ts";
import type { DefaultProfile } from "./apparmor-default.ts";
import { capabilitiesFor } from "./capabilities.ts";
import { planDevices } from "./devices.ts";
import type { HostPaths } from "./host-paths.ts";
import type { ImageVolume } from "./image-mounts.ts";
import { hiddenPaths } from "./masking.ts";
import { isMountedOver, planMounts, type SandboxFiles } from "./mounts.ts";
import type { OciNamespace, OciSpec } from "./oci.ts";
import type { Relabel } from "./relabel.ts";
import { ociResources } from "./resources.ts";
import type { SeccompFilters } from "./seccomp.ts";
import type { ContainerLabels } from "./selinux.ts";

/** The inputs of a spec that come from the node; part of the pod model's Environment. */
export interface NodeSetup {
  /** This process's bounding set (capabilities(7)). */
  readonly hostCapabilities: bigint;
  /** Undefined: the monitor's own limit. */
  readonly openFiles: OpenFilesLimit | undefined;
  /** No container gets a lower OOM score; see `lowestOomScore` in oom-score.ts. */
  readonly lowestOomScore: number;
  readonly filters: SeccompFilters;
  /** The default AppArmor profile. */
  readonly defaultProfile: DefaultProfile;
  readonly hostPaths: Pick<HostPaths, "present" | "ofDevice">;
  /** From `throttlePaths` in masking.ts. */
  readonly throttlePaths: readonly string[];
}

export interface SandboxSetup {
  readonly id: SandboxId;
  readonly config: SandboxConfig;
  readonly files: SandboxFiles;
  /** Paths of the pinned namespaces, for those that are the pod's own. */
  readonly pinned: Readonly<Partial<Record<"network" | "ipc" | "uts" | "pid" | "user", string>>>;
  /** Id mappings of the pod's user namespace. */
  readonly user?: IdMappings;
  /** The pod's cgroup in cgroupfs form. */
  readonly cgroup: string;
  readonly hostname: string;
}

/** RLIMIT_NOFILE (getrlimit(2)). */
export interface OpenFilesLimit {
  readonly soft: number;
  readonly hard: number;
}

export interface ContainerSetup {
  readonly id: string;
  readonly config: ContainerConfig;
  readonly image: Image;
  readonly account: Account;
  readonly imageVolumes: readonly ImageVolume[];
  /** Path of the PID namespace to join, for pid mode "target". */
  readonly targetPidNamespace: string;
  /** SELinux labels. */
  readonly labels: ContainerLabels;
  readonly relabel: Relabel;
  /** Whether the pod's monitor sets HOME (`findsHome` in native/). */
  readonly monitorFindsHome: () => boolean;
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Also prepares the host's volumes: creates missing sources as directories, and relabels where requested. */
export async function buildSpec(node: NodeSetup, sandbox: SandboxSetup, container: ContainerSetup): Promise<OciSpec> {
  const { config, account, labels } = container;
  const { openFiles } = node;
  const { security } = config;
  refuseUnsupported(config);
  const capabilities = capabilitiesFor(security, node.hostCapabilities);
  const [mounts, devices, seccomp, apparmorProfile] = await Promise.all([
    planMounts(config, sandbox, container.imageVolumes, node.hostPaths, container.relabel),
    planDevices(config, sandbox.user !== undefined, node.hostPaths),
    node.filters.profile(security, capabilities.bounding),
    apparmorFor(security, node.defaultProfile),
  ]);
  return {
    ociVersion: "1.0.2",
    process: {
      terminal: config.tty,
      user: {
        uid: Number(account.uid),
        gid: Number(account.gid),
        additionalGids: account.supplementalGroups.map(Number),
      },
      args: commandLine(container),
      env: environment(sandbox, container),
      cwd: config.workingDir || container.image.config.workingDir || "/",
      capabilities,
      noNewPrivileges: security.noNewPrivs,
      ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
      ...(labels.process === undefined ? {} : { selinuxLabel: labels.process }),
      ...(openFiles === undefined ? {} : { rlimits: [{ type: "RLIMIT_NOFILE", ...openFiles }] }),
      // Always set explicitly: this daemon's own score may protect it from the OOM killer.
      oomScoreAdj: Math.max(Number(config.resources?.oomScoreAdj ?? 0), node.lowestOomScore),
    },
    root: { path: "rootfs", readonly: security.readonlyRootfs },
    hostname: sandbox.pinned.uts === undefined ? "" : sandbox.hostname,
    mounts: mounts.mounts,
    annotations: {
      "io.kubernetes.cri.container-type": "container",
      "io.kubernetes.cri.sandbox-id": sandbox.id,
      "io.kubernetes.cri.sandbox-name": sandbox.config.metadata.name,
      "io.kubernetes.cri.sandbox-namespace": sandbox.config.metadata.namespace,
      "io.kubernetes.cri.container-name": config.metadata.name,
    },
    linux: {
      namespaces: namespaces(sandbox, container),
      devices: devices.devices,
      cgroupsPath: `${sandbox.cgroup}/${container.id}`,
      resources: ociResources(config.resources, devices.rules),
      ...hiddenPaths(security, sandbox.user !== undefined, node.throttlePaths),
      rootfsPropagation: mounts.rootfsPropagation,
      ...(labels.mount === undefined ? {} : { mountLabel: labels.mount }),
      ...(seccomp === undefined ? {} : { seccomp }),
      ...(sandbox.user === undefined ? {} : ociMappings(sandbox.user)),
    },
  };
}

/**
 * Device plugins may request CDI devices by annotation; ignoring those would start the container without its device.
 */
function refuseUnsupported({ cdiDevices, annotations }: ContainerConfig): void {
  const annotated = annotations.entries().find(([key]) => key.startsWith("cdi.k8s.io/"));
  const device = cdiDevices[0] ?? annotated?.[1];
  if (device !== undefined) throw podErrors.cdiUnsupported({ device });
}

/**
 * Kubernetes' rule: command replaces the entrypoint (and drops the image's cmd), args replace cmd. An entrypoint of one
 * empty string means none: Dockerfiles use it to reset the entrypoint of their base image.
 */
function commandLine({ config, image }: ContainerSetup): string[] {
  const [first, ...more] = image.config.entrypoint;
  const entrypoint = first === "" && more.length === 0 ? [] : image.config.entrypoint;
  const command = config.command.length > 0 ? config.command : entrypoint;
  const args = config.args.length > 0 ? config.args : config.command.length > 0 ? [] : image.config.cmd;
  const line = [...command, ...args];
  if (line.length === 0) throw podErrors.commandMissing({ container: config.metadata.name, image: config.image.image });
  return line;
}

/** Each name appears once; later entries override earlier ones: defaults, the image's, the request's. */
function environment(sandbox: SandboxSetup, { config, image, account, monitorFindsHome }: ContainerSetup): Buffer[] {
  const byName = new Map<string, Buffer>();
  const put = (entry: Buffer) => {
    const equals = entry.indexOf("=");
    byName.set(entry.subarray(0, equals < 0 ? entry.length : equals).toString("latin1"), entry);
  };
  put(Buffer.from(defaultPath));
  put(Buffer.from(`HOSTNAME=${sandbox.hostname}`));
  // If the pod mounts its own passwd file, HOME comes from that file, which the runtime reads at the start.
  if (!(isMountedOver(config, "/etc/passwd") && monitorFindsHome()))
    put(Buffer.concat([Buffer.from("HOME="), account.home]));
  if (config.tty) put(Buffer.from("TERM=xterm"));
  for (const entry of image.config.env) put(Buffer.from(entry));
  for (const { name, value } of config.envs) put(Buffer.concat([Buffer.from(`${name}=`), value]));
  return [...byName.values()];
}

function namespaces(sandbox: SandboxSetup, container: ContainerSetup): OciNamespace[] {
  const { pinned } = sandbox;
  const joined = (type: "network" | "ipc" | "uts" | "user", path: string | undefined): OciNamespace[] =>
    path === undefined ? [] : [{ type, path }];
  return [
    { type: "mount" },
    ...joined("network", pinned.network),
    ...joined("ipc", pinned.ipc),
    ...joined("uts", pinned.uts),
    ...joined("user", pinned.user),
    ...pidNamespace(sandbox, container),
    ...cgroupNamespace(container),
  ];
}

/**
 * With a cgroup namespace, the container sees and can mount only its own cgroup subtree. A privileged container uses
 * the host's cgroup namespace, as in CRI-O (setupCgroupNamespace) and containerd (buildLinuxSpec): it has full access
 * to the host anyway, and node agents need the node's cgroups.
 */
function cgroupNamespace({ config }: ContainerSetup): OciNamespace[] {
  return config.security.privileged ? [] : [{ type: "cgroup" }];
}

function pidNamespace(sandbox: SandboxSetup, container: ContainerSetup): OciNamespace[] {
  switch (container.config.security.namespaces.pid) {
    case "node":
      return [];
    case "container":
      return [{ type: "pid" }];
    case "pod":
      return sandbox.pinned.pid === undefined ? [{ type: "pid" }] : [{ type: "pid", path: sandbox.pinned.pid }];
    case "target":
      return [{ type: "pid", path: container.targetPidNamespace }];
  }
}
