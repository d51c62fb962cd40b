// The part of `npm run e2e:conformance` that runs in its own namespaces: sets up the environment of a suite, and runs
// its specs in groups.

import { cp, glob, mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { separateCgroupMounts } from "../../fixtures/kubernetes/sealed.ts";
import { startClusterPlace, startNodePlace } from "./places.ts";
import { openResults, type Results } from "./results.ts";
import { grouped, type Place, runGroup } from "./run.ts";
import type { Spec } from "./specs.ts";

/** The job that main.ts passes. */
export interface Job {
  readonly suite: "node-e2e" | "conformance";
  /** The suite's binary, and the directory with all programs. */
  readonly binary: string;
  readonly programs: string;
  /** The storage of the registry with the suite's images. */
  readonly storage: string;
  readonly specs: readonly Spec[];
  readonly seed: number;
  readonly parallel: number;
  readonly resultsFile: string;
  /** Where outputs and logs are kept. */
  readonly logs: string;
}

const starts = { "node-e2e": startNodePlace, conformance: startClusterPlace };

if (import.meta.main) {
  const [directory = "", jobFile = ""] = process.argv.slice(2);
  const job: Job = JSON.parse(await readFile(jobFile, "utf8"));
  await runJob(directory, job);
}

async function runJob(directory: string, job: Job): Promise<void> {
  const results = await openResults(job.resultsFile, true);
  const began = performance.now();
  await separateCgroupMounts(directory);
  const place = await starts[job.suite](directory, job.programs, job.storage);
  say(`   ready after ${elapsed(began)}`);
  try {
    // Not where the results are kept, because a node mounts an overlay there.
    const work = join(directory, "suite");
    await mkdir(work, { recursive: true });
    for (const group of grouped(job.specs)) await run(job, { ...place, directory: work }, group, results);
  } finally {
    await place.stop();
    await keepLogs(directory, job.logs);
  }
  say(`   ${job.suite}: ${elapsed(began)}`);
}

async function run(job: Job, place: Place, group: readonly Spec[], results: Results): Promise<void> {
  const began = performance.now();
  const outcomes = await runGroup(job, place, group);
  await results.add(job.suite, job.seed, outcomes);
  for (const { name, outcome, why } of outcomes) {
    if (outcome === "passed") continue;
    say(`${outcome === "failed" ? "FAIL " : "skip "} ${name}\n${why.replaceAll(/^/gm, "      ")}`);
  }
  const passed = outcomes.filter(({ outcome }) => outcome === "passed").length;
  say(`   ${passed} of ${group.length} passed in ${elapsed(began)}`);
}

/** All files named *.log below `from`, under their paths. */
async function keepLogs(from: string, to: string): Promise<void> {
  await rm(to, { recursive: true, force: true });
  for await (const path of glob("**/*.log", { cwd: from }))
    await cp(join(from, path), join(to, path)).catch((error: unknown) => say(`not kept: ${error}`));
}

function elapsed(began: number): string {
  return `${((performance.now() - began) / 1000).toFixed(0)} s`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
