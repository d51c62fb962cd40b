// The results as data: for each row and subject, the statistics and every sample.

import { columnsOf, hasFigures, type Row, rows } from "./rows.ts";
import { percentile, ratio, type Samples } from "./samples.ts";

export interface RowFigures {
  readonly title: string;
  readonly unit: string;
  readonly subjects: Readonly<Record<string, SubjectFigures>>;
  readonly floors: Readonly<Record<string, SubjectFigures>>;
  /** Keelson's median divided by the peer's; only if both have enough samples. */
  readonly ratios: Readonly<Record<string, number>>;
}

export interface SubjectFigures {
  readonly p50: number;
  readonly p95: number;
  readonly samples: readonly number[];
}

export function figures(samples: Samples): readonly RowFigures[] {
  return rows.filter((row) => hasFigures(row, samples)).map((row) => rowFigures(row, samples));
}

function rowFigures(row: Row, samples: Samples): RowFigures {
  const { key, title, unit, floors = [] } = row;
  const columns = columnsOf(row);
  const ourSamples = samples.of(key, columns.keelson);
  const servers = Object.values(columns);
  return {
    title,
    unit,
    subjects: named(servers.map((server) => [server, samples.of(key, server)])),
    floors: named(floors.map(({ name, key: floor }) => [name, samples.of(floor, "floor")])),
    ratios: Object.fromEntries(
      servers.flatMap((peer) => {
        const value = peer === columns.keelson ? undefined : ratio(ourSamples, samples.of(key, peer));
        return value === undefined ? [] : [[peer, rounded(value)] as const];
      }),
    ),
  };
}

function named(list: readonly (readonly [string, readonly number[]])[]): Record<string, SubjectFigures> {
  return Object.fromEntries(
    list
      .filter(([, values]) => values.length > 0)
      .map(([name, values]) => [
        name,
        {
          p50: rounded(percentile(values, 0.5)),
          p95: rounded(percentile(values, 0.95)),
          samples: values.map(rounded),
        },
      ]),
  );
}

/** Milliseconds are rounded to microseconds. */
function rounded(value: number): number {
  return Number(value.toFixed(3));
}
