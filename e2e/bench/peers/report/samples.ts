// The samples of a run, by row and subject, and their statistics.

import type { RowKey } from "./rows.ts";

/** The subject of a sample. Servers with `-own` use Keelson's own network plugins; `floor` is not a server. */
export type Subject = ServerName | "floor";
export type ServerName = "containerd" | "cri-o" | "keelson" | "cri-o-own" | "keelson-own";

/** A ratio of fewer samples than this would be mostly noise. */
export const samplesForRatio = 20;

export class Samples {
  readonly #numbers = new Map<string, number[]>();

  add(row: RowKey, subject: Subject, value: number): void {
    const key = `${row} ${subject}`;
    const list = this.#numbers.get(key);
    if (list === undefined) this.#numbers.set(key, [value]);
    else list.push(value);
  }

  of(row: RowKey, subject: Subject): readonly number[] {
    return this.#numbers.get(`${row} ${subject}`) ?? [];
  }
}

/** By nearest rank: the smallest value that at least this share of all values does not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

/** The ratio of the medians; undefined when one has too few samples, or the divisor is not positive. */
export function ratio(ours: readonly number[], theirs: readonly number[]): number | undefined {
  if (ours.length < samplesForRatio || theirs.length < samplesForRatio) return undefined;
  const [upper, lower] = [percentile(ours, 0.5), percentile(theirs, 0.5)];
  return lower > 0 ? upper / lower : undefined;
}
