// All floors: one turn of them takes a few hundred milliseconds, and alternates with the servers' turns.

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cgroupHierarchies, makeCgroup } from "../../../fixtures/kubernetes/sealed.ts";
import type { Pod } from "../pods.ts";
import type { Programs } from "../programs.ts";
import type { FloorKey } from "../report/rows.ts";
import { createCniFloor } from "./cni.ts";
import { type CrunFloor, createCrunFloor } from "./crun.ts";
import { buildFloor, type Cost, makeRoot, measured } from "./floor.ts";
import { statsFiles } from "./stats-files.ts";

export interface Floors {
  /** Measures each floor at least once; a floor whose programs are missing is skipped. */
  turn(add: (key: FloorKey, milliseconds: number) => void): Promise<void>;
  /** The plugins' part of starting `pods` pods at once. */
  burst(pods: number, add: (key: FloorKey, milliseconds: number) => void): Promise<void>;
  /** Writes `files` files of this size, and keeps them: ext4 checks freed inodes when it allocates new ones. */
  write(files: number, bytes: number): Promise<Cost>;
  /**
   * Finds the files behind the statistics of these pods, or only of their containers; resolves with a function that
   * reads them.
   */
  statsReader(of: "containers" | "pods", pods: readonly Pod[]): Promise<(count: number) => Promise<Cost[]>>;
}

type CostKey =
  | "cni-add"
  | "cni-del"
  | "own-add"
  | "own-del"
  | "crun-start"
  | "crun-exec"
  | "kernel-start"
  | "kernel-exec"
  | "flush";

const startsPerTurn = 2;
const execsPerTurn = 5;
const flushesPerTurn = 2;

export async function createFloors(base: string, cgroup: string, programs: Programs): Promise<Floors> {
  const directory = join(base, "floors");
  await mkdir(directory);
  const place = join(cgroup, "floors");
  await makeCgroup(place);
  const cgroups = (await cgroupHierarchies()).map((hierarchy) => join(hierarchy, place));
  // New cpuset cgroups are empty and unusable in cgroup v1; this setting makes them inherit their parent's values.
  for (const path of cgroups) await writeFile(join(path, "cgroup.clone_children"), "1").catch(() => undefined);
  const [floor, root] = [await buildFloor(directory), await makeRoot(directory)];
  const { cniPlugins, ownPlugins, crun } = programs;
  const cni = await createCniFloor(join(directory, "cni"), floor, cniPlugins, 0);
  const own = ownPlugins && (await createCniFloor(join(directory, "own-cni"), floor, ownPlugins, 1));
  const crunFloor = crun && (await createCrunFloor(join(directory, "crun"), place, floor, crun, root));
  return {
    turn: async (add) => {
      const cost = (key: CostKey, { wall, cpu }: Cost): void => {
        add(key, wall);
        add(`${key}-cpu`, cpu);
      };
      cost("cni-add", await cni.add());
      cost("cni-del", await cni.remove());
      if (own) {
        cost("own-add", await own.add());
        cost("own-del", await own.remove());
      }
      if (crunFloor) await crunTurn(crunFloor, cost);
      for (const each of await kernel("start", startsPerTurn)) cost("kernel-start", each);
      for (const each of await kernel("exec", execsPerTurn)) cost("kernel-exec", each);
      for (const each of await measured(floor, ["flush", directory, String(flushesPerTurn)])) cost("flush", each);
    },
    burst: async (pods, add) => {
      const plain = await cni.addAtOnce(pods);
      add("cni-burst", plain.wall);
      add("cni-burst-cpu", plain.cpu);
      if (!own) return;
      const ours = await own.addAtOnce(pods);
      add("own-burst", ours.wall);
      add("own-burst-cpu", ours.cpu);
    },
    write: async (files, bytes) => {
      const scratch = await mkdtemp(join(directory, "written-"));
      const [cost = { wall: Number.NaN, cpu: Number.NaN }] = await measured(floor, [
        "write",
        scratch,
        String(files),
        String(bytes),
      ]);
      return cost;
    },
    statsReader: async (of, pods) => {
      const files = await Promise.all(pods.map(async (pod) => await statsFiles(of, pod)));
      const list = files.flat().join("\n");
      return async (count) => await measured(floor, ["read", String(count)], list);
    },
  };

  async function kernel(what: "start" | "exec", count: number): Promise<Cost[]> {
    const scratch = await mkdtemp(join(directory, "scratch-"));
    const costs = await measured(floor, [what, root, scratch, String(count), ...cgroups]);
    await rm(scratch, { recursive: true });
    return costs;
  }
}

async function crunTurn(crun: CrunFloor, cost: (key: CostKey, cost: Cost) => void): Promise<void> {
  cost("crun-start", await crun.start());
  for (let count = 0; count < execsPerTurn; count += 1) cost("crun-exec", await crun.exec());
  await crun.remove();
}
