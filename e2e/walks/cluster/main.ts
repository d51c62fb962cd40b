// `npm run e2e:cluster`: a Kubernetes cluster of two nodes on Keelson, used as real users would.
//
// Options:
//   --only NAME   only these parts (can be repeated); their names are in inside.ts
// The first run builds Kubernetes from its Go modules into the tool cache, which takes 15 minutes. The cluster runs in
// its own namespaces (fixtures/kubernetes/sealed.ts); the host is compared before and after.
// The last line is "N passed, N failed".

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountHugetlb } from "../../../native/testing/crun-host.ts";
import { byDesign, captureHostState, differences } from "../../fixtures/host-state.ts";
import { kubernetesPrograms } from "../../fixtures/kubernetes/build.ts";
import { runSealed } from "../../fixtures/kubernetes/sealed.ts";
import { ociHandlers } from "../../fixtures/oci-runtimes.ts";
import { type Counts, createSteps } from "../../fixtures/steps.ts";
import { toolsDirectory } from "../../fixtures/tools.ts";

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const programs = await kubernetesPrograms(toolsDirectory(process.env));
if (programs.kind === "unavailable") say(`skipped: ${programs.reason}`);
else {
  const { step, add, thrown, conclude } = createSteps(say);
  // Downloaded here, because there is no network inside the namespaces.
  const handlers = await ociHandlers();
  await using undo = new AsyncDisposableStack();
  undo.defer(await mountHugetlb());
  const before = await captureHostState([]);
  await walk(programs.directory, handlers).then(add, thrown);
  await step("the host is as it was before", async () => {
    const left = differences(before, await captureHostState([])).filter((line) => !byDesign(line));
    assert.equal(left.length, 0, left.join("\n      "));
  }).catch(thrown);
  process.exitCode = conclude() ? 0 : 1;
}

async function walk(directory: string, handlers: Readonly<Record<string, string>>): Promise<Counts> {
  const results = await mkdtemp(join(tmpdir(), "keelson-walk-"));
  try {
    const file = join(results, "counts.json");
    const script = new URL("inside.ts", import.meta.url).pathname;
    await runSealed(script, [directory, JSON.stringify(handlers), file, ...process.argv.slice(2)]);
    return JSON.parse(await readFile(file, "utf8"));
  } finally {
    await rm(results, { recursive: true, force: true });
  }
}
