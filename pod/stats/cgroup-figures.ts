// Reading the same figures of many cgroups, in the words of Host.readFigures, over the hierarchies of either version.

import { type CgroupTree, type Host, noFigure } from "../../native/index.ts";

/** By v1 controller, or "" for what v2 has: everything when it is alone, pressure beside v1. */
export type FiguresByController = Readonly<Record<string, readonly string[]>>;

/** Nothing limits memory above this (v1 writes "no limit" as a number near 2^63). */
export const noLimit = 1n << 62n;

interface Column {
  readonly numbers: BigUint64Array;
  readonly width: number;
  readonly at: number;
}

/** What the kernel gave of them for one cgroup: a row of numbers that all cgroups share. */
export class Figures {
  readonly #columns: ReadonlyMap<string, Column>;
  readonly #row: number;

  constructor(columns: ReadonlyMap<string, Column>, row: number) {
    this.#columns = columns;
    this.#row = row;
  }

  get(figure: string): bigint | undefined {
    const column = this.#columns.get(figure);
    if (column === undefined) return undefined;
    const value = column.numbers[this.#row * column.width + column.at];
    return value === noFigure ? undefined : value;
  }

  get empty(): boolean {
    return this.#columns.keys().every((figure) => this.get(figure) === undefined);
  }
}

/** One answer for each cgroup, in order, read by `read`. */
export async function readFigures(
  read: Host["readFigures"],
  tree: CgroupTree,
  wanted: FiguresByController,
  cgroups: readonly string[],
): Promise<Figures[]> {
  const columns = new Map<string, Column>();
  await Promise.all(
    Object.entries(wanted).map(async ([controller, figures]) => {
      const directories = cgroups.map((cgroup) => directoryOf(tree, controller, cgroup));
      const numbers = await read(directories, figures);
      for (const [at, figure] of figures.entries()) columns.set(figure, { numbers, width: figures.length, at });
    }),
  );
  return cgroups.map((_, row) => new Figures(columns, row));
}

export function directoryOf(tree: CgroupTree, controller: string, cgroup: string): string {
  return hierarchy(tree, controller) + cgroup;
}

/** The mount point of a controller's hierarchy ("" is v2); a path where nothing is, on a host without it. */
export function hierarchy(tree: CgroupTree, controller: string): string {
  const mountPoint = tree.unified || controller === "" ? tree.v2 : (tree.v1.get(controller) ?? "");
  return mountPoint === "" ? "/nonexistent" : mountPoint;
}
