// Reads the same metrics of many cgroups, named as in Host.readFigures but without a path, from cgroup v1 or v2.

import { type CgroupTree, type Host, noFigure } from "../../native/index.ts";

/** Metrics by v1 controller, or "" for v2: all of them on a unified host, only pressure on a hybrid one. */
export type FiguresByController = Readonly<Record<string, readonly string[]>>;

/** Higher memory limits mean no limit (v1 shows "no limit" as a number near 2^63). */
export const noLimit = 1n << 62n;

/** The metrics that are read of each cgroup of a tree, in order. */
export class WantedFigures {
  /** As Host.readFigures takes them. */
  readonly paths: readonly string[];
  readonly #columns: ReadonlyMap<string, number>;

  constructor(tree: CgroupTree, wanted: FiguresByController) {
    this.paths = Object.entries(wanted).flatMap(([controller, figures]) =>
      figures.map((figure) => `${hierarchy(tree, controller)}*/${figure}`),
    );
    this.#columns = new Map(
      Object.values(wanted)
        .flat()
        .map((figure, column) => [figure, column]),
    );
  }

  column(figure: string): number | undefined {
    return this.#columns.get(figure);
  }
}

/** The metrics of one cgroup: a row in an array that all cgroups of a read share. */
export class Figures {
  readonly #wanted: WantedFigures;
  readonly #numbers: BigUint64Array;
  readonly #row: number;

  constructor(wanted: WantedFigures, numbers: BigUint64Array, row: number) {
    this.#wanted = wanted;
    this.#numbers = numbers;
    this.#row = row;
  }

  get(figure: string): bigint | undefined {
    const column = this.#wanted.column(figure);
    if (column === undefined) return undefined;
    const value = this.#numbers[this.#row * this.#wanted.paths.length + column];
    return value === noFigure ? undefined : value;
  }

  get empty(): boolean {
    const width = this.#wanted.paths.length;
    return this.#numbers.subarray(this.#row * width, (this.#row + 1) * width).every((value) => value === noFigure);
  }
}

/** Returns one result per cgroup, in order. */
export async function readFigures(
  read: Host["readFigures"],
  wanted: WantedFigures,
  cgroups: readonly string[],
): Promise<Figures[]> {
  const numbers = await read(cgroups, wanted.paths);
  return cgroups.map((_, row) => new Figures(wanted, numbers, row));
}

/** The mount point of a controller's hierarchy ("" is v2); a path that does not exist if the host has none. */
export function hierarchy(tree: CgroupTree, controller: string): string {
  const mountPoint = tree.unified || controller === "" ? tree.v2 : (tree.v1.get(controller) ?? "");
  return mountPoint === "" ? "/nonexistent" : mountPoint;
}
