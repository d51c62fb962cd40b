// The context of every scenario.

import type { Fleet } from "./fleet.ts";
import type { Floors } from "./floors/floors.ts";
import type { Samples } from "./report/samples.ts";
import type { Server } from "./servers/server.ts";

export interface Bench {
  readonly directory: string;
  /** The benchmark's own cgroup in every hierarchy; those of the servers and the floors are below it. */
  readonly cgroup: string;
  /** containerd, CRI-O and Keelson, as far as available. */
  readonly servers: readonly Server[];
  /** Keelson and CRI-O with Keelson's network plugins, if these are built; used only for pod starts. */
  readonly onOwnPlugins: readonly Server[];
  readonly floors: Floors;
  readonly fleet: Fleet;
  readonly samples: Samples;
  readonly rounds: number;
  /** Number of pulls of the large image, which take long. */
  readonly pulls: number;
  /** Number of idle pods while lists, stats, memory and recovery are measured. */
  readonly pods: number;
  /** Adds a sentence to the notes of the report. */
  note(sentence: string): void;
}

/** Duration of the work in milliseconds, and its result. */
export async function timed<Result>(work: () => Promise<Result>): Promise<readonly [number, Result]> {
  const from = performance.now();
  const result = await work();
  return [performance.now() - from, result];
}
