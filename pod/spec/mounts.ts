// A container's mounts: kernel file systems, the sandbox's files, and the mounts from the request.
// Sources: OCI config.md ("Mounts"), config-linux.md ("Default Filesystems"); CRI v1 Mount.

import { realpath, statfs } from "node:fs/promises";
import { posix } from "node:path";
import { hostCgroupOptions, type MountEntry, mountOf, readMountTable } from "../../native/index.ts";
import { podErrors } from "../errors.ts";
import type { ContainerConfig, IdMappings, Mount } from "../types.ts";
import { ociMappings } from "../user-namespace.ts";
import type { HostPaths } from "./host-paths.ts";
import { type ImageVolume, imageMount } from "./image-mounts.ts";
import type { OciLinux, OciMount } from "./oci.ts";
import type { MountTable, Relabel } from "./relabel.ts";

/** Host paths of the files that the sandbox provides to all its containers. */
export interface SandboxFiles {
  readonly resolvConf: string;
  readonly hostname: string;
  readonly shm: string;
}

export interface MountPlan {
  readonly mounts: readonly OciMount[];
  readonly rootfsPropagation: OciLinux["rootfsPropagation"];
}

/** The inputs of the mounts that come from the sandbox. */
export interface MountSetup {
  readonly files: SandboxFiles;
  readonly pinned: { readonly network?: string; readonly ipc?: string };
  readonly user?: IdMappings;
}

/** `images`: the volumes of the config's image mounts. */
export async function planMounts(
  config: ContainerConfig,
  sandbox: MountSetup,
  images: readonly ImageVolume[],
  hostPaths: Pick<HostPaths, "present">,
  relabel: Relabel,
): Promise<MountPlan> {
  for (const mount of config.mounts) refuseTarget(mount);
  const ofImage = new Map(images.map((volume) => [volume.mount, imageMount(volume)]));
  const found = await Promise.all(
    config.mounts.map(async (mount) => ({
      mount,
      source: ofImage.has(mount) ? "" : await hostPaths.present(mount),
    })),
  );
  // Read once, and only after the sources were resolved, because accessing a source may mount it (autofs).
  let table: Promise<readonly MountEntry[]> | undefined;
  const mountTable: MountTable = () => {
    table ??= readMountTable();
    return table;
  };
  const requested = await Promise.all(
    found.map(({ mount, source }) => ofImage.get(mount) ?? hostMount(mount, source, mountTable, relabel)),
  );
  const taken = new Set(config.mounts.map(destinationOf));
  // Our own /proc stays below a requested one, so that a mount over it that is not procfs gets refused.
  const untaken = ({ destination }: OciMount) => destination === "/proc" || !taken.has(destination);
  const ofKernel = (await kernelMounts(config, sandbox, mountTable)).filter(untaken);
  const ofSandbox = (await sandboxMounts(config, sandbox)).filter(untaken);
  const rootfsPropagation = rootPropagation(config.mounts);
  // A mount inside a shared volume propagates to the host, and symlinks may lead there: a pod's resolv.conf could
  // replace the node's. So such volumes are mounted last, and hide the sandbox's files below them.
  const mounts =
    rootfsPropagation === "rshared"
      ? [...ofKernel, ...ofSandbox, ...byDepth(requested)]
      : [...ofKernel, ...byDepth([...ofSandbox, ...requested])];
  return { mounts, rootfsPropagation };
}

async function kernelMounts(
  { security }: ContainerConfig,
  sandbox: MountSetup,
  mountTable: MountTable,
): Promise<OciMount[]> {
  const access = security.privileged ? "rw" : "ro";
  // A privileged container uses the host's cgroup namespace (build.ts).
  const ofHost = security.privileged ? hostCgroupOptions(await mountTable()) : [];
  return [
    { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
    {
      destination: "/dev",
      type: "tmpfs",
      source: "tmpfs",
      options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"] },
    sysMount(sandbox, access),
    {
      destination: "/sys/fs/cgroup",
      type: "cgroup",
      source: "cgroup",
      options: ["nosuid", "noexec", "nodev", "relatime", access, ...ofHost],
    },
  ];
}

/**
 * Only the owner of the network namespace can mount sysfs, and a pod's user namespace does not own the host's. So the
 * host's sysfs is bind-mounted, with the mounts below it (some writable for everybody, such as a bpffs), but without
 * later mounts.
 */
function sysMount({ user, pinned }: MountSetup, access: "ro" | "rw"): OciMount {
  const options = ["nosuid", "noexec", "nodev"];
  if (user === undefined || pinned.network !== undefined)
    return { destination: "/sys", type: "sysfs", source: "sysfs", options: [...options, access] };
  const ofTree = access === "ro" ? "rro" : "rw";
  return { destination: "/sys", type: "bind", source: "/sys", options: ["rbind", "rprivate", ...options, ofTree] };
}

/**
 * The files are read-only only with a read-only root, as in CRI-O and containerd: programs in a container may edit
 * their resolv.conf.
 */
async function sandboxMounts({ security }: ContainerConfig, { files, pinned }: MountSetup): Promise<OciMount[]> {
  const options = (access: string) => ["rbind", "rprivate", access, "nosuid", "nodev", "noexec"];
  const file = options(security.readonlyRootfs ? "ro" : "rw");
  const shm = pinned.ipc === undefined ? await realpath("/dev/shm") : files.shm;
  return [
    { destination: "/dev/shm", type: "bind", source: shm, options: options("rw") },
    { destination: "/etc/resolv.conf", type: "bind", source: files.resolvConf, options: file },
    { destination: "/etc/hostname", type: "bind", source: files.hostname, options: file },
  ];
}

/** From linux/magic.h. */
const procSuperMagic = 0x9fa0;

function refuseTarget(mount: Mount): void {
  const target = mount.containerPath;
  if (destinationOf(mount) === "/")
    throw podErrors.mountTarget({ target: "/", reason: "it would hide the container's root" });
  if (mount.image === undefined && !target.startsWith("/"))
    throw podErrors.mountTarget({ target, reason: "it is not absolute" });
  if (mount.image !== undefined && destinationOf(mount) === "/proc") throw noProcfs(mount, mount.image.image);
}

/**
 * A container needs a procfs for masked paths and for setting its security label. The monitor enforces this even if the
 * path has symlinks; this check gives the request a clear error.
 */
async function refuseOverProc(mount: Mount, source: string): Promise<void> {
  if (destinationOf(mount) !== "/proc") return;
  const type = (await statfs(source).catch(() => undefined))?.type;
  if (type !== procSuperMagic) throw noProcfs(mount, mount.hostPath);
}

/**
 * From a private host mount, nothing propagates: later mounts by the container or the host are invisible to the other
 * side, which would write into the directory below the volume instead.
 */
async function refuseUnshared(
  { propagation, containerPath }: Mount,
  source: string,
  mountTable: MountTable,
): Promise<void> {
  if (propagation === "private") return;
  const point = mountOf(source, await mountTable());
  if (point?.isShared === true || (propagation === "host-to-container" && point?.isSlave === true)) return;
  throw podErrors.mountNotShared({ source, target: containerPath, propagation, point: point?.at ?? "/" });
}

function noProcfs(mount: Mount, source: string): Error {
  const reason = `${source} is not a procfs, which a container must have there`;
  return podErrors.mountTarget({ target: mount.containerPath, reason });
}

function destinationOf({ containerPath }: Mount): string {
  return posix.resolve("/", containerPath);
}

/** Whether one of the container's requested mounts covers that path. */
export function isMountedOver(config: ContainerConfig, path: string): boolean {
  return config.mounts.map(destinationOf).some((target) => path === target || path.startsWith(`${target}/`));
}

/** `source`: the mount's host path with symlinks resolved. */
async function hostMount(mount: Mount, source: string, mountTable: MountTable, relabel: Relabel): Promise<OciMount> {
  const access = mount.recursiveReadOnly ? "rro" : mount.readonly ? "ro" : "rw";
  await refuseOverProc(mount, source);
  await refuseUnshared(mount, source, mountTable);
  await relabel(mount, source, mountTable);
  return {
    destination: destinationOf(mount),
    type: "bind",
    source,
    options: ["rbind", propagationOption[mount.propagation], access, ...mount.mountOptions],
    ...(mount.uidMappings.length > 0 || mount.gidMappings.length > 0
      ? ociMappings({ uids: mount.uidMappings, gids: mount.gidMappings })
      : {}),
  };
}

const propagationOption = { private: "rprivate", "host-to-container": "rslave", bidirectional: "rshared" } as const;

/** Sorts mounts so that one below another's target comes after it, regardless of the request's order. */
function byDepth(mounts: readonly OciMount[]): OciMount[] {
  const depth = (mount: OciMount) => mount.destination.split("/").filter((part) => part !== "").length;
  return mounts.toSorted((a, b) => depth(a) - depth(b));
}

/** The root needs the strongest propagation of its mounts, or it would block theirs. */
function rootPropagation(mounts: readonly Mount[]): OciLinux["rootfsPropagation"] {
  if (mounts.some((mount) => mount.propagation === "bidirectional")) return "rshared";
  if (mounts.some((mount) => mount.propagation === "host-to-container")) return "rslave";
  return "rprivate";
}
