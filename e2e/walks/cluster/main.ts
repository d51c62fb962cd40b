// `npm run e2e:cluster`: a Kubernetes cluster of two nodes on Keelson, driven as its users drive one.
//
// Options:
//   --only NAME   these parts alone (may be given several times); their names are in inside.ts
// Kubernetes is built out of its Go modules into the tools cache at the first run, which takes a quarter of an hour. The
// cluster runs in namespaces of its own (fixtures/kubernetes/sealed.ts); the host is compared before and after.
// The last line is "N passed, N failed".

import { byDesign, captureHostState, differences } from "../../fixtures/host-state.ts";
import { kubernetesPrograms } from "../../fixtures/kubernetes/build.ts";
import { runSealed } from "../../fixtures/kubernetes/sealed.ts";
import { ociHandlers } from "../../fixtures/oci-runtimes.ts";
import { toolsDirectory } from "../../fixtures/tools.ts";

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const programs = await kubernetesPrograms(toolsDirectory(process.env));
if (programs.kind === "unavailable") say(`skipped: ${programs.reason}`);
else {
  // Fetched here, where there is a network.
  const handlers = await ociHandlers();
  const before = await captureHostState([]);
  const code = await runSealed(new URL("inside.ts", import.meta.url).pathname, [
    programs.directory,
    JSON.stringify(handlers),
    ...process.argv.slice(2),
  ]);
  const left = differences(before, await captureHostState([])).filter((line) => !byDesign(line));
  for (const line of left) say(`FAIL  left on the host: ${line}`);
  process.exitCode = left.length === 0 ? code : 1;
}
