// `npm run bench:probes`: the CPU cost of pods with an exec probe every second, for Keelson and containerd under the
// same kubelet.
//
// Options:
//   --pods N      default 50
//   --seconds N   how long CPU is measured for each, default 120
// The first run builds Kubernetes and containerd from their Go modules into the tool cache. The cluster runs in its own
// namespaces (fixtures/kubernetes/sealed.ts). CPU time is read from cgroups, so a shared machine still gives a result,
// unless its load keeps one of the runtimes from running as many probes: then no ratio is printed.

import { kubernetesPrograms } from "../../fixtures/kubernetes/build.ts";
import { containerdPrograms } from "../../fixtures/kubernetes/containerd.ts";
import { runSealed } from "../../fixtures/kubernetes/sealed.ts";
import { ociHandlers } from "../../fixtures/oci-runtimes.ts";
import { toolsDirectory } from "../../fixtures/tools.ts";

const cache = toolsDirectory(process.env);
const kubernetes = await kubernetesPrograms(cache);
const containerd = await containerdPrograms(cache);
const { runc } = await ociHandlers();
if (kubernetes.kind === "unavailable") skip(kubernetes.reason);
else if (containerd.kind === "unavailable") skip(containerd.reason);
else if (runc === undefined) skip("no current runc");
else {
  process.exitCode = await runSealed(new URL("inside.ts", import.meta.url).pathname, [
    kubernetes.directory,
    containerd.directory,
    runc,
    ...process.argv.slice(2),
  ]);
}

function skip(reason: string): void {
  process.stdout.write(`skipped: ${reason}\n`);
}
