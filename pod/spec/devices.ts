// Devices of a container: the ones asked for, all of the host's for a privileged one, and the cgroup's rules.
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

/** What every container may use: null, zero, full, random, urandom, tty, console, ptmx, ptys; and mknod of anything. */
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
  ].map(([major = 0, minor = 0]): OciDeviceRule => ({ allow: true, type: "c", major, minor, access: "rwm" })),
  { allow: true, type: "c", major: 136, access: "rwm" },
];

/** `ownUsers`: in a user namespace. `nodes`: where the host's devices are. */
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
  // What is asked for in the place of the host's is what is found there: a volume at /dev/sda is not the node's disk.
  return { devices: unique([...host, ...devices]), rules: [{ allow: true, access: "rwm" }] };
}

interface AskedDevice {
  readonly device: OciDevice;
  readonly access: string;
}

async function requestedDevices(wish: Device, hostPaths: Pick<HostPaths, "ofDevice">): Promise<AskedDevice[]> {
  const target = resolve(wish.containerPath || wish.hostPath);
  // Not by Node's threads, which all files share: a file system that does not answer would keep them.
  const real = await hostPaths.ofDevice(wish.hostPath);
  const devices = await devicesAt(wish.hostPath, real, target);
  const access = wish.permissions === "" ? "rwm" : wish.permissions;
  return devices.map((device) => ({ device, access }));
}

/** A node gives one device, a directory all below it. */
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
 * All below the directory, but for targets that are left out: anybody may fill /dev/shm with what nobody can walk. What is
 * unplugged meanwhile is passed over.
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
 * In a user namespace the container's root owns its nodes, and may change their modes: one of the host's root alone, a disk,
 * would be as open to it.
 */
function isForEverybody({ fileMode }: OciDevice): boolean {
  return (fileMode & 0o006) === 0o006;
}

/** The container's own devpts, shm, mqueue and console stand in place of the host's. */
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
