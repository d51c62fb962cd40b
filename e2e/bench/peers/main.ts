// `npm run bench:peers`: compares Keelson with containerd + runc and CRI-O + crun on this machine; one program drives
// all of them in turn.
//
// Options:
//   --rounds N    turns of each server, default 20; with fewer than 20 samples no ratio is printed
//   --pulls N     pulls of the large image on each server, default 3: one takes half a minute for all three
//   --pods N      idle pods on each server, default 100
//   --only NAME   one section (sections.ts); may be given several times
//   --save        writes e2e/bench/RESULTS.md, results.json and chart.svg; otherwise below the temporary directory
//
// The first run builds the peers (programs.ts), which takes five to ten minutes; unavailable peers are skipped and
// named. Everything runs in its own namespaces (fixtures/kubernetes/sealed.ts) and is removed afterwards, however it
// ends.

import { mountHugetlb } from "../../../native/testing/crun-host.ts";
import { runSealed } from "../../fixtures/kubernetes/sealed.ts";
import { parseOptions } from "./options.ts";
import { bringPrograms } from "./programs.ts";
import { builtPackage } from "./servers/keelson.ts";

try {
  parseOptions(process.argv.slice(2));
  const programs = await bringPrograms(builtPackage);
  const script = new URL("inside.ts", import.meta.url).pathname;
  // Mounted outside of the namespaces, because the cgroups are removed out here afterwards and need the hierarchy.
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
