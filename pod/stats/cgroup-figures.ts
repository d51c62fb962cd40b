// Reads the same metrics of many cgroups, named as in Host.readFigures, from cgroup v1 or v2.

import { type CgroupTree, type Host, noFigure } from "../../native/index.ts";

/** Metrics by v1 controller, or "" for v2: all of them on a unified host, only pressure on a hybrid one. */
export type FiguresByController = Readonly<Record<string, readonly string[]>>;

/** Higher memory limits mean no limit (v1 shows "no limit" as a number near 2^63). */
export const noLimit = 1n << 62n;

interface Column {
  readonly numbers: BigUint64Array;
  readonly width: number;
  readonly at: number;
}

/** The metrics of one cgroup: a row in arrays that all cgroups share. */
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

/** Returns one result per cgroup, in order. */
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

/** The mount point of a controller's hierarchy ("" is v2); a path that does not exist if the host has none. */
export function hierarchy(tree: CgroupTree, controller: string): string {
  const mountPoint = tree.unified || controller === "" ? tree.v2 : (tree.v1.get(controller) ?? "");
  return mountPoint === "" ? "/nonexistent" : mountPoint;
}
