// Finds host resources with Keelson's names that belong to no pod: for `keelson check --leaks`.
//
// Pods are defined by their records, which are read after scanning the host. A second scan filters out resources that a
// request is creating or removing at the moment: a leak shows up in both.

import { readdir, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type CgroupTree, firstLine, isErrno, processIds, readMountTable } from "../native/index.ts";
import { cgroupDirectories } from "./cgroups.ts";
import { podErrors } from "./errors.ts";
import { commandLine } from "./monitor-process.ts";
import { netnsDirectory } from "./sandbox.ts";
import { ownerOfScope } from "./systemd/scope-owner.ts";

export type LeakKind =
  | "monitor"
  | "pod directory"
  | "mount"
  | "network namespace"
  | "cgroup"
  | "network lease"
  | "writable layer";

export interface Leak {
  readonly kind: LeakKind;
  /** A path; for a monitor, its pid. */
  readonly object: string;
  /** The pod or container that it was created for. */
  readonly id: string;
}

export interface LeakPlaces {
  /** Persistent state: records, leases, layers. */
  readonly root: string;
  /** Volatile state: pods' directories. */
  readonly state: string;
  readonly cgroups: CgroupTree;
  /** Parent cgroup of pods without a cgroup_parent, in cgroupfs form. */
  readonly cgroupRoot: string;
  /** As `transientUnits` of systemd/scope-owner.ts. */
  readonly units: string;
}

const idPattern = /[0-9a-f]{64}/;
const secondScanMs = 2_000;

/** Read-only. Waits `settleMs` between the two scans. Rejects with leaksUnknown when a directory cannot be read. */
export async function findLeaks(given: LeakPlaces, settleMs = secondScanMs): Promise<Leak[]> {
  // The daemon resolves symlinks in its paths, so mounts, monitors and scopes show the real path.
  const places = { ...given, state: await realpath(given.state).catch(() => given.state) };
  const first = await scan(places);
  if (first.length === 0) return first;
  await sleep(settleMs);
  const second = new Set((await scan(places)).map(keyOf));
  return first.filter((leak) => second.has(keyOf(leak)));
}

async function scan({ root, state, cgroups, cgroupRoot, units }: LeakPlaces): Promise<Leak[]> {
  const found = await Promise.all([
    monitors(state),
    named("pod directory", join(state, "pods")),
    mounts(state),
    namespaces(state),
    ofCgroupRoot(cgroups, cgroupRoot),
    scopes(cgroups, units, state),
    named("network lease", join(root, "cni")),
    named("writable layer", join(root, "image", "containers")),
  ]);
  const all = found.flat();
  const recorded = new Set(all.length === 0 ? [] : (await recordNames(root)).flatMap(idIn));
  return all.filter(({ id }) => !recorded.has(id));
}

/** A missing records directory means that `root` is wrong or its disk is not mounted. */
async function recordNames(root: string): Promise<string[]> {
  const directory = join(root, "state");
  return await readdir(directory).catch((error: unknown) => {
    throw podErrors.leaksUnknown({ directory, reason: firstLine(error) }, error);
  });
}

async function monitors(state: string): Promise<Leak[]> {
  const lines = await Promise.all((await processIds()).map(async (pid) => ({ pid, line: await commandLine(pid) })));
  const before = `keelson-monitor\0run\0${join(state, "pods")}/`;
  return lines
    .filter(({ line }) => line.startsWith(before))
    .flatMap(({ pid, line }) => idIn(line).map((id) => ({ kind: "monitor" as const, object: String(pid), id })));
}

/** Deepest first, the order in which they must be unmounted. */
async function mounts(state: string): Promise<Leak[]> {
  const table = await readMountTable();
  return table.toReversed().flatMap(({ at, type }): Leak[] => {
    if (!at.startsWith(`${state}/`)) return [];
    const kind = type === "nsfs" ? "network namespace" : "mount";
    return idIn(at).map((id) => ({ kind, object: at, id }));
  });
}

/** Those of another Keelson, whose state directory is beside this one's, are in the same directory. */
async function namespaces(state: string): Promise<Leak[]> {
  const above = dirname(state);
  const all = await named("network namespace", netnsDirectory(state));
  if (all.length === 0) return [];
  const others = (await names(above)).filter((name) => name !== basename(state));
  const lists = others.map((name) => readdir(join(above, name, "pods")).catch((): string[] => []));
  const ofOthers = new Set((await Promise.all(lists)).flat());
  return all.filter(({ id }) => !ofOthers.has(id));
}

async function ofCgroupRoot(tree: CgroupTree, cgroupRoot: string): Promise<Leak[]> {
  const lists = cgroupDirectories(tree, cgroupRoot).map(async (directory) => await named("cgroup", directory));
  return (await Promise.all(lists)).flat();
}

/** Scopes in any slice, except those of another Keelson. The kubelet removes its own slices. */
async function scopes(tree: CgroupTree, units: string, state: string): Promise<Leak[]> {
  const found = (await Promise.all(cgroupDirectories(tree, "/").map(scopesBelow))).flat();
  const owners = await Promise.all(found.map(async (path) => await ownerOfScope(basename(path), units)));
  const own = found.filter((_, at) => (owners[at] ?? state) === state);
  return own.flatMap((object) => idIn(basename(object)).map((id) => ({ kind: "cgroup" as const, object, id })));
}

/** Reads each directory separately: one that is removed meanwhile does not hide others. */
async function scopesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const below = entries
    .filter((entry) => entry.isDirectory())
    .map(async ({ name }) => {
      const path = join(directory, name);
      return /^keelson-[0-9a-f]{64}\.scope$/.test(name) ? [path] : await scopesBelow(path);
    });
  return (await Promise.all(below)).flat();
}

async function named(kind: LeakKind, directory: string): Promise<Leak[]> {
  const all = await names(directory);
  return all.flatMap((name) => idIn(name).map((id) => ({ kind, object: join(directory, name), id })));
}

/** A missing directory is empty. An unreadable one is an error: without the records every pod would be a leak. */
async function names(directory: string): Promise<string[]> {
  return await readdir(directory).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return [];
    throw podErrors.leaksUnknown({ directory, reason: firstLine(error) }, error);
  });
}

/** The first id in a name, as an array of zero or one elements. */
function idIn(text: string): string[] {
  return idPattern.exec(text)?.slice(0, 1) ?? [];
}

function keyOf({ kind, object }: Leak): string {
  return `${kind} ${object}`;
}
