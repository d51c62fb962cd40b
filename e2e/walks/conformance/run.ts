// Runs specs of a suite in groups, as Kubernetes' own CI jobs do: with the ginkgo command, in parallel, serial specs
// alone.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Job } from "./inside.ts";
import { readResults, type Spec, type SpecResult } from "./specs.ts";

/** How to run a suite's binary. */
export interface Place {
  /** The command prefix that enters the namespaces. */
  readonly enter: readonly string[];
  /** The suite's own flags. */
  readonly flags: readonly string[];
  /** Where it runs; its output and reports go there. */
  readonly directory: string;
}

/** Most failing specs time out after five minutes, some after ten; a whole group of them must be able to complete. */
const groupTimeout = "2h";
/** Results are stored when a group ends; a group waits for its slowest spec, which takes five minutes. */
const groupSize = 150;
const first = ["[sig-node]", "[sig-storage]", "[sig-network]"];

/** Splits specs into sequential groups: those most relevant to a container runtime first, serial specs last. */
export function grouped(specs: readonly Spec[]): readonly (readonly Spec[])[] {
  const rank = ({ name }: Spec): number => {
    const found = first.findIndex((sig) => name.startsWith(sig));
    return found === -1 ? first.length : found;
  };
  const ordered = specs.toSorted((one, other) => rank(one) - rank(other));
  const [alone, together] = [ordered.filter(({ isSerial }) => isSerial), ordered.filter(({ isSerial }) => !isSerial)];
  return [...chunks(together, groupSize), ...chunks(alone, groupSize)];
}

/** Runs a group; every spec that started has a result. */
export async function runGroup(job: Job, place: Place, specs: readonly Spec[]): Promise<SpecResult[]> {
  const [report, output] = ["report.json", join(place.directory, "output.log")];
  await rm(join(place.directory, report), { force: true });
  const [program = "", ...words] = [
    ...place.enter,
    join(job.programs, "ginkgo"),
    `--procs=${specs.every(({ isSerial }) => isSerial) ? 1 : job.parallel}`,
    "--no-color",
    "--flake-attempts=1",
    `--seed=${job.seed}`,
    `--timeout=${groupTimeout}`,
    `--output-dir=${place.directory}`,
    `--json-report=${report}`,
    ...specs.map(({ name }) => `--focus=${name.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")}`),
    job.binary,
    "--",
    ...place.flags,
  ];
  const log = openSync(output, "a");
  const child = spawn(program, words, { cwd: place.directory, stdio: ["ignore", log, log] });
  closeSync(log);
  await once(child, "exit");
  const names = new Set(specs.map(({ name }) => name));
  return await readResults(join(place.directory, report), names).catch(async (error: unknown) => {
    const tail = (await readFile(output, "utf8")).slice(-3000);
    throw new Error(`ginkgo wrote no report; its output ends:\n${tail}`, { cause: error });
  });
}

function chunks<Item>(items: readonly Item[], size: number): Item[][] {
  const count = Math.ceil(items.length / size);
  return Array.from({ length: count }, (_, index) => items.slice(index * size, (index + 1) * size));
}
