// A container's mounts: the kernel's file systems, the sandbox's files, and what the request asks for.
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

/** Host paths of what the sandbox gives to all its containers. */
export interface SandboxFiles {
  readonly resolvConf: string;
  readonly hostname: string;
  readonly shm: string;
}

export interface MountPlan {
  readonly mounts: readonly OciMount[];
  readonly rootfsPropagation: OciLinux["rootfsPropagation"];
}

/** What the mounts take from the sandbox. */
export interface MountSetup {
  readonly files: SandboxFiles;
  readonly pinned: { readonly network?: string; readonly ipc?: string };
  readonly user?: IdMappings;
}

/** `images` are the volumes of the mounts that have an image. */
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
  // Once for all of them, and only then: to look at a source may mount it (autofs).
  let table: Promise<readonly MountEntry[]> | undefined;
  const mountTable: MountTable = () => {
    table ??= readMountTable();
    return table;
  };
  const requested = await Promise.all(
    found.map(({ mount, source }) => ofImage.get(mount) ?? hostMount(mount, source, mountTable, relabel)),
  );
  const taken = new Set(config.mounts.map(destinationOf));
  // Our own /proc stays below one that is asked for: a mount over procfs that is no procfs is then refused.
  const untaken = ({ destination }: OciMount) => destination === "/proc" || !taken.has(destination);
  const ofKernel = (await kernelMounts(config, sandbox, mountTable)).filter(untaken);
  const ofSandbox = (await sandboxMounts(config, sandbox)).filter(untaken);
  const rootfsPropagation = rootPropagation(config.mounts);
  // What is mounted in a volume that the host shares is mounted on the host too, and links may lead there: so a pod's
  // resolv.conf would become the node's. Such volumes hide what they cover.
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
  // It has the host's cgroup namespace (build.ts).
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
 * sysfs can be mounted by the owner of the network namespace alone; a user namespace does not own the host's. The host's
 * sysfs comes with what is mounted there, like a bpffs that is anybody's to write to, and nothing that is mounted later.
 */
function sysMount({ user, pinned }: MountSetup, access: "ro" | "rw"): OciMount {
  const options = ["nosuid", "noexec", "nodev"];
  if (user === undefined || pinned.network !== undefined)
    return { destination: "/sys", type: "sysfs", source: "sysfs", options: [...options, access] };
  const ofTree = access === "ro" ? "rro" : "rw";
  return { destination: "/sys", type: "bind", source: "/sys", options: ["rbind", "rprivate", ...options, ofTree] };
}

/**
 * The files are read-only with a read-only root alone, as in both peers: programs in a container may edit their
 * resolv.conf.
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
 * A container without a procfs has no masked paths and no security label of its own to be told apart by. The monitor
 * sees to it whatever the path's links are; here the request gets its answer in words.
 */
async function refuseOverProc(mount: Mount, source: string): Promise<void> {
  if (destinationOf(mount) !== "/proc") return;
  const type = (await statfs(source).catch(() => undefined))?.type;
  if (type !== procSuperMagic) throw noProcfs(mount, mount.hostPath);
}

/**
 * Of what the host shares with nobody the container's mounts stay unseen by others, and the host's by the container: either
 * would write into the directory below a volume instead.
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
  const reason = `${source} is no procfs, and a container must have one there`;
  return podErrors.mountTarget({ target: mount.containerPath, reason });
}

function destinationOf({ containerPath }: Mount): string {
  return posix.resolve("/", containerPath);
}

/** Whether what the container finds at that path comes from one of its own mounts. */
export function isMountedOver(config: ContainerConfig, path: string): boolean {
  return config.mounts.map(destinationOf).some((target) => path === target || path.startsWith(`${target}/`));
}

/** `source`: the mount's host path, its links resolved. */
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

/** A mount below another one's target comes after it, whatever the request's order. */
function byDepth(mounts: readonly OciMount[]): OciMount[] {
  const depth = (mount: OciMount) => mount.destination.split("/").filter((part) => part !== "").length;
  return mounts.toSorted((a, b) => depth(a) - depth(b));
}

/** The root must pass on what one of its mounts wants to see or to give. */
function rootPropagation(mounts: readonly Mount[]): OciLinux["rootfsPropagation"] {
  if (mounts.some((mount) => mount.propagation === "bidirectional")) return "rshared";
  if (mounts.some((mount) => mount.propagation === "host-to-container")) return "rslave";
  return "rprivate";
}
