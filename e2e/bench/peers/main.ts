// `npm run bench:peers`: Keelson beside containerd + runc and CRI-O + crun, on this machine, driven in turn by one program.
//
// Options:
//   --rounds N    turns of each server, 20 unless given; without 20 samples no ratio is printed
//   --pulls N     pulls of the large image on each server, 3 unless given: one takes half a minute for all three
//   --pods N      pods at rest on each server, 100 unless given
//   --only NAME   one section (sections.ts); may be given several times
//   --save        writes e2e/bench/RESULTS.md, results.json and chart.svg; else they go to a directory in the temporary one
// The first run builds the peers (programs.ts), for five to ten minutes; a peer that cannot be had is left out and named.
// Everything runs in namespaces of its own (fixtures/kubernetes/sealed.ts) and is gone afterwards, however it ends.

import { mountHugetlb } from "../../../native/testing/crun-host.ts";
import { runSealed } from "../../fixtures/kubernetes/sealed.ts";
import { parseOptions } from "./options.ts";
import { bringPrograms } from "./programs.ts";
import { builtPackage } from "./servers/keelson.ts";

try {
  parseOptions(process.argv.slice(2));
  const programs = await bringPrograms(builtPackage);
  const script = new URL("inside.ts", import.meta.url).pathname;
  // Out here, where the cgroups are taken down afterwards: in there its hierarchy would be out of reach then.
  const unmountHugetlb = await mountHugetlb();
  try {
    process.exitCode = await runSealed(script, [JSON.stringify(programs), ...process.argv.slice(2)], "peers");
  } finally {
    unmountHugetlb();
  }
} catch (error) {
  process.stderr.write(`bench:peers: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}
