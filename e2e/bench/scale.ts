// `npm run bench:scale`: which costs grow with the number of pods on a node, and which of them faster than linearly.
//
// One daemon; pods with one sleeping container each, started eight at a time: first in the host's network, to exclude
// the cost of networking, then on a bridge of Keelson's own plugins. It takes the same measurements at 100 pods and at
// --pods N (default 1,000); a cost per pod that has grown by more than a quarter is marked. Nothing else should run at
// the same time.

import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, loadavg, release, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildBusyboxImage } from "../fixtures/busybox-image.ts";
import { type CriClient, connectCri } from "../fixtures/client.ts";
import { type Daemon, startDaemon } from "../fixtures/daemon.ts";
import { monitorPids, proportionalKilobytes } from "../fixtures/processes.ts";
import { percentile } from "./peers/report/samples.ts";
import { namespaceMode, startPod } from "./pod.ts";

const { values: options } = parseArgs({ options: { pods: { type: "string", default: "1000" } } });
const most = Number(options.pods);
const few = 100;
const atOnce = 8;
const repeats = 20;
const bridge = "keelson-scale0";
const image = "localhost/bench/busybox:1";
const ownPlugins = join(import.meta.dirname, "../../native/build/cni");
/** A cost per pod that grew by more than this factor is marked. */
const linear = 1.25;

if (!(most > few)) throw new Error(`--pods is ${options.pods}; it must be more than ${few}`);
print(`keelson, Node ${process.version}, Linux ${release()}, ${cpus().length} × ${cpus()[0]?.model}`);
print(
  `load before: ${loadavg()
    .map((load) => load.toFixed(2))
    .join(" ")}; p50 of ${repeats} for lists; MB are PSS`,
);
for (const network of ["the host's network", "a bridge of our own plugins"] as const) await measure(network);

/** Measurements by name, per pod or for the node. */
type Figures = Map<string, number>;

async function measure(network: "the host's network" | "a bridge of our own plugins"): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "keelson-scale-"));
  const daemon = await startDaemon({
    directory,
    network: { bridge, subnet: "10.112.0.0/16" },
    pluginDirectories: [ownPlugins],
  });
  const client = connectCri(daemon.socket, 600_000);
  const { pod, container, node } = namespaceMode;
  const namespaces = { network: network === "the host's network" ? node : pod, pid: container };
  const plan = { image, directory, namespaces, command: ["sleep", "1000000"] };
  const pods: string[] = [];
  try {
    daemon.keelson("image", "load", await buildBusyboxImage(join(directory, "image"), image));
    const small = await grow(few);
    const large = await grow(most);
    print(`\n${network}`.trimStart());
    print(`${"".padEnd(38)}${String(few).padStart(10)}${String(most).padStart(10)}   per pod`);
    for (const [name, value] of large) {
      const before = small.get(name) ?? Number.NaN;
      const growth = name.startsWith("each") ? value / before : value / most / (before / few);
      const mark = growth > linear ? `× ${growth.toFixed(2)}: faster than linear` : `× ${growth.toFixed(2)}`;
      print(
        `${name.padEnd(38)}${value === before ? "" : before.toFixed(1).padStart(10)}${value.toFixed(1).padStart(10)}   ${mark}`,
      );
    }
    const begin = performance.now();
    await sideBySide(pods, async (podSandboxId) => await client.removePodSandbox({ podSandboxId }));
    print(
      `${"each removal, ms (8 at a time)".padEnd(38)}${"".padStart(10)}${((performance.now() - begin) / most).toFixed(1).padStart(10)}`,
    );
  } catch (error) {
    print(`${network}: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  } finally {
    const { items } = await client.listPodSandbox({}).catch(() => ({ items: [] }));
    await sideBySide(items, async ({ id }) => await client.removePodSandbox({ podSandboxId: id ?? "" }));
    client.close();
    await daemon.stop();
    execFileSync("sh", ["-c", `ip link delete ${bridge} 2>/dev/null || true`]);
    await rm(directory, { recursive: true, force: true });
  }

  async function grow(count: number): Promise<Figures> {
    const added = Array.from({ length: count - pods.length }, (_, at) => `pod-${pods.length + at}`);
    const begin = performance.now();
    await sideBySide(added, async (name) => void pods.push((await startPod(client, { ...plan, name })).sandbox));
    const took = (performance.now() - begin) / added.length;
    return new Map([["each start, ms (8 at a time)", took], ...(await costs(daemon, client, directory, count))]);
  }
}

async function costs(daemon: Daemon, client: CriClient, directory: string, count: number): Promise<Figures> {
  const figures: Figures = new Map();
  for (const [name, ask] of [
    ["ListPodSandbox, ms", () => client.listPodSandbox({})],
    ["ListContainers, ms", () => client.listContainers({})],
    ["ListContainerStats, ms", () => client.listContainerStats({})],
    ["ListPodSandboxStats, ms", () => client.listPodSandboxStats({})],
  ] as const) {
    const times: number[] = [];
    for (let turn = 0; turn < repeats; turn += 1) {
      const begin = performance.now();
      await ask();
      times.push(performance.now() - begin);
    }
    figures.set(name, percentile(times, 0.5));
  }
  const monitors = await Promise.all((await monitorPids(directory)).map(proportionalKilobytes));
  figures.set("daemon, MB", (await proportionalKilobytes(daemon.pid)) / 1024);
  figures.set("monitors, MB", monitors.reduce((sum, kilobytes) => sum + kilobytes, 0) / 1024);
  const begin = performance.now();
  await daemon.kill();
  await daemon.start();
  const { containers } = await client.listContainers({ filter: { state: { state: 1 } } });
  if (containers.length !== count) throw new Error(`${containers.length} of ${count} containers run after a restart`);
  figures.set("kill -9 to all listed, ms", performance.now() - begin);
  return figures;
}

async function sideBySide<Item>(items: readonly Item[], work: (item: Item) => Promise<unknown>): Promise<void> {
  const rest = items.values();
  const worker = async () => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
