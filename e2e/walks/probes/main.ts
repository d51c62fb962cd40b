// `npm run bench:probes`: what pods with an exec probe each second cost Keelson and containerd, under the same kubelet.
//
// Options:
//   --pods N      50 unless given
//   --seconds N   how long CPU is counted for each, 120 unless given
// Kubernetes and containerd are built out of their Go modules into the tools cache at the first run. The cluster runs in
// namespaces of its own (fixtures/kubernetes/sealed.ts). CPU is that of cgroups, so a machine that others use as well
// still gives a figure, unless it keeps either runtime from probing as often: then there is none.

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
