// What every scenario works with.

import type { Fleet } from "./fleet.ts";
import type { Floors } from "./floors/floors.ts";
import type { Samples } from "./report/samples.ts";
import type { Server } from "./servers/server.ts";

export interface Bench {
  readonly directory: string;
  /** In every hierarchy, the bench's own: the servers' and the floors' are below it. */
  readonly cgroup: string;
  /** containerd, CRI-O and Keelson, as far as they can be had. */
  readonly servers: readonly Server[];
  /** Keelson and CRI-O with Keelson's network plugins, once the build has them: they take part in pod starts alone. */
  readonly onOwnPlugins: readonly Server[];
  readonly floors: Floors;
  readonly fleet: Fleet;
  readonly samples: Samples;
  readonly rounds: number;
  /** Of the sections that take long: pulls of the large image. */
  readonly pulls: number;
  /** How many pods are at rest when lists, stats, memory and recovery are measured. */
  readonly pods: number;
  /** A sentence for below the table. */
  note(sentence: string): void;
}

/** The time of the work, in milliseconds, and what it made. */
export async function timed<Result>(work: () => Promise<Result>): Promise<readonly [number, Result]> {
  const from = performance.now();
  const result = await work();
  return [performance.now() - from, result];
}
