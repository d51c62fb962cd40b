// What is on the host and belongs to no pod, by the names that Keelson gives: for `keelson check --leaks`.
//
// Records are what makes a pod, and they are read after the host was looked at. What a request has made meanwhile, or is
// taking down, is sorted out by a second look: a leak is there in both.

import { readdir, realpath } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type CgroupTree, firstLine, isErrno, processIds, readMountTable } from "../native/index.ts";
import { cgroupDirectories } from "./cgroups.ts";
import { podErrors } from "./errors.ts";
import { commandLine } from "./monitor-process.ts";
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
  /** A path; of a monitor its pid. */
  readonly object: string;
  /** Of the pod or container that it was made for. */
  readonly id: string;
}

export interface LeakPlaces {
  /** Durable state: records, leases, layers. */
  readonly root: string;
  /** Volatile state: pods' directories. */
  readonly state: string;
  readonly cgroups: CgroupTree;
  /** Where pods without a cgroup parent go, in cgroupfs form. */
  readonly cgroupRoot: string;
  /** As `transientUnits` of systemd/scope-owner.ts. */
  readonly units: string;
}

const idPattern = /[0-9a-f]{64}/;
const secondLookMs = 2_000;

/** Changes nothing. `settleMs` lies between the two looks. Rejects with leaksUnknown when a directory cannot be read. */
export async function findLeaks(given: LeakPlaces, settleMs = secondLookMs): Promise<Leak[]> {
  // The daemon's paths, and so its mounts, monitors and scopes, have no links.
  const places = { ...given, state: await realpath(given.state).catch(() => given.state) };
  const first = await look(places);
  if (first.length === 0) return first;
  await sleep(settleMs);
  const second = new Set((await look(places)).map(keyOf));
  return first.filter((leak) => second.has(keyOf(leak)));
}

async function look({ root, state, cgroups, cgroupRoot, units }: LeakPlaces): Promise<Leak[]> {
  const found = await Promise.all([
    monitors(state),
    named("pod directory", join(state, "pods")),
    mounts(state),
    ofCgroupRoot(cgroups, cgroupRoot),
    scopes(cgroups, units, state),
    named("network lease", join(root, "cni")),
    named("writable layer", join(root, "image", "containers")),
  ]);
  const all = found.flat();
  const recorded = new Set(all.length === 0 ? [] : (await recordNames(root)).flatMap(idIn));
  return all.filter(({ id }) => !recorded.has(id));
}

/** A root without records is not the one that these pods are on record in: another is meant, or its disk is not mounted. */
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

/** Deepest first, as they have to be undone. */
async function mounts(state: string): Promise<Leak[]> {
  const table = await readMountTable();
  return table.toReversed().flatMap(({ at, type }): Leak[] => {
    if (!at.startsWith(`${state}/`)) return [];
    const kind = type === "nsfs" ? "network namespace" : "mount";
    return idIn(at).map((id) => ({ kind, object: at, id }));
  });
}

async function ofCgroupRoot(tree: CgroupTree, cgroupRoot: string): Promise<Leak[]> {
  const lists = cgroupDirectories(tree, cgroupRoot).map(async (directory) => await named("cgroup", directory));
  return (await Promise.all(lists)).flat();
}

/** In whatever slice, but those of another Keelson; a kubelet's own slices are its own to remove. */
async function scopes(tree: CgroupTree, units: string, state: string): Promise<Leak[]> {
  const found = (await Promise.all(cgroupDirectories(tree, "/").map(scopesBelow))).flat();
  const owners = await Promise.all(found.map(async (path) => await ownerOfScope(basename(path), units)));
  const own = found.filter((_, at) => (owners[at] ?? state) === state);
  return own.flatMap((object) => idIn(basename(object)).map((id) => ({ kind: "cgroup" as const, object, id })));
}

/** One directory after another: what goes meanwhile takes nothing else from the list. */
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

/** Missing is empty. Unread is neither: without the records every pod would be a leak. */
async function names(directory: string): Promise<string[]> {
  return await readdir(directory).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return [];
    throw podErrors.leaksUnknown({ directory, reason: firstLine(error) }, error);
  });
}

/** The first id in a name, as none or one. */
function idIn(text: string): string[] {
  return idPattern.exec(text)?.slice(0, 1) ?? [];
}

function keyOf({ kind, object }: Leak): string {
  return `${kind} ${object}`;
}
