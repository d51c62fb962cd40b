// Reading the same figures of many cgroups, in the words of Host.readFigures, over the hierarchies of either version.

import { join } from "node:path";
import { type Host, noFigure } from "../native/index.ts";
import type { CgroupTree } from "./cgroups.ts";

/** By v1 controller, or "" for what v2 has: everything when it is alone, pressure beside v1. */
export type FiguresByController = Readonly<Record<string, readonly string[]>>;
/** What the kernel gave of them. */
export type Figures = ReadonlyMap<string, bigint>;

/** Nothing limits memory above this (v1 writes "no limit" as a number near 2^63). */
export const noLimit = 1n << 62n;

/** One answer for each cgroup, in order. */
export async function readFigures(
  host: Host,
  tree: CgroupTree,
  wanted: FiguresByController,
  cgroups: readonly string[],
): Promise<Figures[]> {
  const tables = await Promise.all(
    Object.entries(wanted).map(async ([controller, figures]) => {
      const directories = cgroups.map((cgroup) => join(hierarchy(tree, controller), cgroup));
      return { figures, numbers: await host.readFigures(directories, figures) };
    }),
  );
  return cgroups.map((_, row) => {
    const values = new Map<string, bigint>();
    for (const { figures, numbers } of tables) {
      for (const [column, figure] of figures.entries()) {
        const value = numbers[row * figures.length + column] ?? noFigure;
        if (value !== noFigure) values.set(figure, value);
      }
    }
    return values;
  });
}

/** The mount point of a controller's hierarchy ("" is v2); a path where nothing is, on a host without it. */
export function hierarchy(tree: CgroupTree, controller: string): string {
  const mountPoint = tree.unified || controller === "" ? tree.v2 : (tree.v1.get(controller) ?? "");
  return mountPoint === "" ? "/nonexistent" : mountPoint;
}
