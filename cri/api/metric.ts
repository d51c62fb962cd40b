// Metric descriptors, and readings from their subject, a container or a sandbox. Source: CRI v1, Metric.

/** One value with its own label values, in addition to the common labels. */
export interface Reading {
  readonly labels: readonly string[];
  readonly value: bigint;
}

export interface Descriptor<Subject> {
  readonly name: string;
  readonly help: string;
  readonly kind: "counter" | "gauge";
  /** The metric's own labels; each reading has as many values. */
  readonly labels: readonly string[];
  readonly read: (subject: Subject) => readonly Reading[];
}

/** A metric without labels of its own. */
export function plain<Subject>(
  kind: Descriptor<Subject>["kind"],
  name: string,
  help: string,
  read: (subject: Subject) => bigint | undefined,
): Descriptor<Subject> {
  return { name, help, kind, labels: [], read: (subject) => readings([], read(subject)) };
}

/** One reading, or none if the value is unknown. */
export function readings(labels: readonly string[], value: bigint | undefined): readonly Reading[] {
  return value === undefined ? [] : [{ labels, value }];
}
