// The benchmark itself, started by main.ts in its own namespaces: its arguments are the directory to use, the peers'
// programs as JSON, and the options. It measures and prints; when it exits, everything that it started is killed.

import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { separateCgroupMounts } from "../../fixtures/kubernetes/sealed.ts";
import type { Bench } from "./bench.ts";
import { mountDisk } from "./disk.ts";
import { createFleet } from "./fleet.ts";
import { createFloors } from "./floors/floors.ts";
import { serveImages } from "./images.ts";
import { parseOptions } from "./options.ts";
import type { Programs } from "./programs.ts";
import { busyShare, describeMachine } from "./report/machine.ts";
import { writeReport } from "./report/report.ts";
import { Samples } from "./report/samples.ts";
import { sections } from "./sections.ts";
import { logEnd } from "./servers/server.ts";
import { startServers } from "./servers/start.ts";

const [sealed = "", programsText = "", ...words] = process.argv.slice(2);
const options = parseOptions(words);
const programs: Programs = JSON.parse(programsText);
const say = (line: string): void => void process.stdout.write(`${line}\n`);
process.once("SIGTERM", () => process.exit(1));
const ownTemporary = tmpdir();
const directory = await mountDisk(sealed);
// Files that fixtures create in the temporary directory are removed with this one.
process.env.TMPDIR = directory;

const busyBefore = await busyShare();
await separateCgroupMounts(directory);
const execute = promisify(execFile);
await execute("ip", ["link", "set", "lo", "up"]);
await mkdir(join(directory, "logs"));
// So that no disk affects the speed of logs.
await execute("mount", ["-t", "tmpfs", "-o", "mode=755", "tmpfs", join(directory, "logs")]);

const cgroup = `/${basename(sealed)}`;
const samples = new Samples();
const notes: string[] = [...programs.missing];
for (const sentence of programs.missing) say(sentence);
const registry = await serveImages();
const { servers, onOwnPlugins } = await startServers(directory, cgroup, programs);
await registry.stop();
const bench: Bench = {
  directory,
  cgroup,
  servers,
  onOwnPlugins,
  floors: await createFloors(directory, cgroup, programs),
  fleet: createFleet(),
  samples,
  rounds: options.rounds,
  pulls: options.pulls,
  pods: options.pods,
  note: (sentence) => notes.push(sentence),
};

const load = [loadavg()];
const all = [...servers, ...onOwnPlugins];
for (const { name, versions } of all) say(`${name}: ${versions}`);
for (const name of options.sections) {
  const from = performance.now();
  try {
    await sections[name]?.(bench);
  } catch (error) {
    for (const server of all) say(`The end of ${server.logFile}:\n${await logEnd(server)}`);
    throw error;
  }
  load.push(loadavg());
  say(`${name}: ${Math.round((performance.now() - from) / 1000)} s, load ${loadavg()[0]?.toFixed(1)}`);
}
await writeReport({
  words,
  options,
  samples,
  notes,
  busyBefore,
  load,
  machine: await describeMachine(),
  versions: [...servers.map(({ versions }) => versions), programs.cniPluginsName],
  directory: options.save ? join(import.meta.dirname, "..") : join(ownTemporary, "keelson-bench-peers"),
  say,
});
process.exit(0);
