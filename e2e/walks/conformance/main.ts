// `npm run e2e:conformance`: Kubernetes' own unmodified test suites, against Keelson.
//
//   node-e2e      e2e_node.test, the [NodeConformance] specs except the serial ones: a standalone kubelet, which the
//                 suite starts itself
//   conformance   e2e.test, the [Conformance] specs: a cluster of two nodes
//
// No spec is retried. The result of each is stored in a file.
//   --suite NAME    one of them; default both
//   --focus REGEX   only specs whose names match
//   --chosen        only the specs listed in chosen.txt, as .ci/run does
//   --resume        keep existing results, and run the specs that have none
//   --parallel N    number of parallel specs; default 4
//   --seed NUMBER   repeats the order of specs of a run that printed this seed
//   --results FILE  where to store results; default next to the tools. Outputs and logs go to a directory next to it.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { testPrograms } from "../../fixtures/kubernetes/build-tests.ts";
import { imageStorage } from "../../fixtures/kubernetes/images.ts";
import { runSealed } from "../../fixtures/kubernetes/sealed.ts";
import { toolsDirectory } from "../../fixtures/tools.ts";
import type { Job } from "./inside.ts";
import { readCannot, readChosen } from "./lists.ts";
import { openResults, table } from "./results.ts";
import { listSpecs, type Spec } from "./specs.ts";

const { values: options } = parseArgs({
  options: {
    suite: { type: "string" },
    focus: { type: "string" },
    chosen: { type: "boolean", default: false },
    resume: { type: "boolean", default: false },
    parallel: { type: "string", default: "4" },
    seed: { type: "string" },
    results: { type: "string" },
  },
});
const suites = {
  // For its serial specs, see the first paragraph of CANNOT.md.
  "node-e2e": { binary: "e2e_node.test", focus: "\\[NodeConformance\\]", skip: "\\[Serial\\]" },
  conformance: { binary: "e2e.test", focus: "\\[Conformance\\]", skip: "^$" },
} as const;

if (options.suite !== undefined && !Object.hasOwn(suites, options.suite))
  throw new Error(`unknown suite ${options.suite}: choose from ${Object.keys(suites).join(" and ")}`);

const cache = toolsDirectory(process.env);
const programs = await testPrograms(cache);
if (programs.kind === "unavailable") say(`skipped: ${programs.reason}`);
else process.exitCode = (await runSuites(programs.directory)) ? 0 : 1;

async function runSuites(programDirectory: string): Promise<boolean> {
  const storage = await imageStorage(cache, programDirectory);
  const resultsFile = options.results ?? join(cache, "conformance", options.chosen ? "chosen.jsonl" : "results.jsonl");
  const seed = Number(options.seed ?? 1 + Math.floor(Math.random() * 999_999));
  const parallel = Number(options.parallel);
  const [results, cannot] = [await openResults(resultsFile, options.resume), await readCannot()];
  say(`seed ${seed}, ${parallel} parallel specs, no retries; results in ${resultsFile}`);
  const summary: { name: string; specs: number; cannot: number }[] = [];
  const asked: { suite: string; name: string }[] = [];
  for (const suite of ["node-e2e", "conformance"] as const) {
    if (options.suite !== undefined && options.suite !== suite) continue;
    const { focus, skip } = suites[suite];
    const binary = join(programDirectory, suites[suite].binary);
    const specs = (await listSpecs(binary, focus, skip)).filter(await isWanted(suite));
    const unable = specs.filter(({ name }) => cannot.has(name));
    summary.push({ name: suite, specs: specs.length, cannot: unable.length });
    const todo = specs.filter(({ name }) => !cannot.has(name) && !results.has(suite, name));
    asked.push(...todo.map(({ name }) => ({ suite, name })));
    if (todo.length === 0) continue;
    say(`== ${suite}: ${todo.length} of ${specs.length} specs`);
    const logs = join(dirname(resultsFile), "logs", suite);
    await run({ suite, binary, programs: programDirectory, storage, specs: todo, seed, parallel, resultsFile, logs });
  }
  const { kept, has } = await openResults(resultsFile, true);
  const missing = asked.filter(({ suite, name }) => !has(suite, name)).map(({ name }) => name);
  const ran = kept.filter(({ suite }) => summary.some(({ name }) => name === suite));
  for (const line of table(ran, summary)) say(line);
  const passed = ran.filter(({ outcome }) => outcome === "passed").length;
  const failed = ran.filter(({ outcome }) => outcome === "failed").length;
  for (const name of missing) say(`FAIL  ${name}: it has no result`);
  say(`${passed} passed, ${failed + missing.length} failed`);
  return failed + missing.length === 0 && passed !== 0;
}

/** Runs each suite in its own process, so that leftovers of one cannot affect the other. */
async function run(job: Job): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), "keelson-conformance-"));
  try {
    const file = join(scratch, "job.json");
    await writeFile(file, JSON.stringify(job));
    const code = await runSealed(join(import.meta.dirname, "inside.ts"), [file]);
    if (code !== 0) throw new Error(`the suite ${job.suite} did not complete: exit code ${code}`);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function isWanted(suite: string): Promise<(spec: Spec) => boolean> {
  const focus = new RegExp(options.focus ?? "");
  const chosen = options.chosen ? await readChosen() : undefined;
  return ({ name }) => focus.test(name) && (chosen === undefined || chosen.has(`${suite}: ${name}`));
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
