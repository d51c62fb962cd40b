// Devices of a container: the requested ones, all of the host's for a privileged container, and the cgroup's rules.
// Sources: CRI v1 Device; OCI config-linux.md ("Devices", "Allowed Device list").

import { lstat, readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { isErrno, messageOf } from "../../native/index.ts";
import { deviceNumbers } from "../device-numbers.ts";
import { podErrors } from "../errors.ts";
import type { ContainerConfig, Device } from "../types.ts";
import type { HostPaths } from "./host-paths.ts";
import type { OciDevice, OciDeviceRule } from "./oci.ts";

export interface DevicePlan {
  readonly devices: readonly OciDevice[];
  readonly rules: readonly OciDeviceRule[];
}

const maxDevices = 4096;

/**
 * Allowed for every container: null, zero, full, random, urandom, tty, console, ptmx, ptys; and mknod of any device. And
 * /dev/net/tun, as in runc and crun: pods with a VPN mount it from the host, and Kubernetes has no field for a device. Without
 * CAP_NET_ADMIN it is of no use.
 */
const ordinaryRules: readonly OciDeviceRule[] = [
  { allow: false, access: "rwm" },
  { allow: true, type: "c", access: "m" },
  { allow: true, type: "b", access: "m" },
  ...[
    [1, 3],
    [1, 5],
    [1, 7],
    [1, 8],
    [1, 9],
    [5, 0],
    [5, 1],
    [5, 2],
    [10, 200],
  ].map(([major = 0, minor = 0]): OciDeviceRule => ({ allow: true, type: "c", major, minor, access: "rwm" })),
  { allow: true, type: "c", major: 136, access: "rwm" },
];

/** `ownUsers`: the pod has a user namespace. `nodes`: the host's device directory. */
export async function planDevices(
  config: ContainerConfig,
  ownUsers: boolean,
  hostPaths: Pick<HostPaths, "ofDevice">,
  nodes = "/dev",
): Promise<DevicePlan> {
  const asked = (await Promise.all(config.devices.map((wish) => requestedDevices(wish, hostPaths)))).flat();
  const devices = unique(asked.map(({ device }) => device));
  if (!config.security.privileged) return { devices, rules: [...ordinaryRules, ...asked.map(ruleOf)] };
  const all = await walk(nodes, "/dev", isContainersOwn);
  const host = all.filter((device) => !ownUsers || isForEverybody(device));
  // Requested devices override the host's at the same path: a volume at /dev/sda is not the node's disk.
  return { devices: unique([...host, ...devices]), rules: [{ allow: true, access: "rwm" }] };
}

interface AskedDevice {
  readonly device: OciDevice;
  readonly access: string;
}

async function requestedDevices(wish: Device, hostPaths: Pick<HostPaths, "ofDevice">): Promise<AskedDevice[]> {
  const target = resolve(wish.containerPath || wish.hostPath);
  // Not through Node's thread pool, which a file system that does not answer would block for all other files.
  const real = await hostPaths.ofDevice(wish.hostPath);
  const devices = await devicesAt(wish.hostPath, real, target);
  const access = wish.permissions === "" ? "rwm" : wish.permissions;
  return devices.map((device) => ({ device, access }));
}

/** The device itself, or all devices below a directory. */
async function devicesAt(hostPath: string, real: string, target: string): Promise<OciDevice[]> {
  try {
    const stat = await lstat(real);
    if (stat.isDirectory()) return await walk(real, target);
    const device = await nodeAt(real, target);
    if (device !== undefined) return [device];
  } catch (error) {
    throw podErrors.deviceMissing({ path: hostPath, reason: messageOf(error) }, error);
  }
  throw podErrors.deviceMissing({ path: hostPath, reason: "it is not a device" });
}

/**
 * All devices below the directory, except excluded targets, since any user can fill /dev/shm with more than can be walked.
 * Devices that are unplugged meanwhile are skipped.
 */
async function walk(
  directory: string,
  target: string,
  isLeftOut: (target: string) => boolean = () => false,
): Promise<OciDevice[]> {
  const found: OciDevice[] = [];
  const waiting = [{ directory, target }];
  for (let next = waiting.shift(); next !== undefined && found.length < maxDevices; next = waiting.shift()) {
    const { directory, target } = next;
    const entries = await readdir(directory, { withFileTypes: true }).catch(unlessGone);
    const wanted = entries
      .map((entry) => ({ entry, directory: join(directory, entry.name), target: join(target, entry.name) }))
      .filter((below) => !isLeftOut(below.target));
    waiting.push(...wanted.filter(({ entry }) => entry.isDirectory()));
    const nodes = wanted.filter(({ entry }) => entry.isCharacterDevice() || entry.isBlockDevice());
    const devices = await Promise.all(
      nodes.map(async (node) => await nodeAt(node.directory, node.target).catch(() => undefined)),
    );
    found.push(...devices.filter((device) => device !== undefined));
  }
  return found.slice(0, maxDevices);
}

function unlessGone(error: unknown): [] {
  if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
  throw error;
}

async function nodeAt(hostPath: string, target: string): Promise<OciDevice | undefined> {
  const stat = await lstat(hostPath);
  const type = stat.isCharacterDevice() ? "c" : stat.isBlockDevice() ? "b" : undefined;
  if (type === undefined) return undefined;
  return {
    path: target,
    type,
    ...deviceNumbers(BigInt(stat.rdev)),
    fileMode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
  };
}

function ruleOf({ device, access }: AskedDevice): OciDeviceRule {
  return { allow: true, type: device.type, major: device.major, minor: device.minor, access };
}

/**
 * In a user namespace the container's root owns its device nodes and may change their modes, so it would gain access to
 * devices that only the host's root may use, such as disks.
 */
function isForEverybody({ fileMode }: OciDevice): boolean {
  return (fileMode & 0o006) === 0o006;
}

/** The container has its own devpts, shm, mqueue and console instead of the host's. */
function isContainersOwn(path: string): boolean {
  return (
    /^\/dev\/(pts|shm|mqueue)(\/|$)/.test(path) ||
    path === "/dev/console" ||
    path === "/dev/ptmx" ||
    path === "/dev/tty"
  );
}

function unique(devices: readonly OciDevice[]): OciDevice[] {
  return [...new Map(devices.map((device) => [device.path, device])).values()];
}
