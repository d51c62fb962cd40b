// `npm run bench:churn`: whether a daemon leaks memory or descriptors, or slows down, while pods come and go for an
// hour.
//
// --pods N (100) pods stay idle on it. Meanwhile, for --minutes N (60), pods are started, listed, entered by execs and
// removed one after another on a bridge of Keelson's own plugins, and in each sixth of the time a large image is pulled
// and removed. After each sixth it prints the memory of the processes. It fails if the daemon has grown by more than a
// tenth since the first sixth.

import { execFileSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { loopPrecision } from "../../cri/metrics/metrics-registry.ts";
import { listenOnLoopback } from "../../image/testing/listen.ts";
import { buildBusyboxImage } from "../fixtures/busybox-image.ts";
import { connectCri } from "../fixtures/client.ts";
import { startDaemon } from "../fixtures/daemon.ts";
import { monitorPids, proportionalKilobytes } from "../fixtures/processes.ts";
import { toolsDirectory } from "../fixtures/tools.ts";
import { images, serveLargeImages } from "./peers/images.ts";
import { megabytesAlone } from "./peers/memory.ts";
import { startPod } from "./pod.ts";

const { values } = parseArgs({
  options: { minutes: { type: "string", default: "60" }, pods: { type: "string", default: "100" } },
});
const [minutes, pods] = [Number(values.minutes), Number(values.pods)];
if (!(minutes > 0) || !(pods > 0)) throw new Error("--minutes and --pods take numbers above zero");
const rows = 6;
/** Milliseconds between two pods: the daemon idles half of the time, because garbage is collected when it is idle. */
const pauseMs = 50;
const settleMs = 3_000;
const mostGrowth = 1.1;
const bridge = "keelson-churn0";
const image = "localhost/bench/busybox:1";
const installed = join(import.meta.dirname, "../../dist");

const directory = await mkdtemp(join(tmpdir(), "keelson-churn-"));
const metricsAddress = `127.0.0.1:${await freePort()}`;
const registry = await serveLargeImages(toolsDirectory(process.env), 1);
const daemon = await startDaemon({
  directory,
  network: { bridge, subnet: "10.113.0.0/16" },
  pluginDirectories: [join(installed, "native/build/cni")],
  command: join(installed, "cri/keelson"),
  metricsAddress,
});
const client = connectCri(daemon.socket, 300_000);
const plan = { image, directory, command: ["sleep", "1000000"] };
const counts = { pods: 0, execs: 0, lists: 0, pulls: 0 };
const weights: number[] = [];
let begin = 0;
try {
  daemon.keelson("image", "load", await buildBusyboxImage(join(directory, "image"), image));
  for (let index = 0; index < pods; index += 1) await startPod(client, { ...plan, name: `rest-${index}` });
  print(`keelson, Node ${process.version}, Linux ${release()}, ${cpus().length} × ${cpus()[0]?.model}`);
  print(
    `${pods} pods at rest; MB are PSS, the daemon's own program in full; lag is the event loop's since the row before`,
  );
  print("minute    pods   execs   lists  pulls  daemon MB  monitors MB  descriptors  lag p99, ms");
  begin = performance.now();
  await printRow();
  for (let row = 1; row <= rows; row += 1) {
    await pullAndRemove();
    while (performance.now() - begin < (minutes * 60_000 * row) / rows) {
      await cycle();
      await delay(pauseMs);
    }
    await printRow();
  }
  const [, first = Number.NaN] = weights;
  const last = weights.at(-1) ?? Number.NaN;
  const kept = last <= first * mostGrowth;
  print(`the daemon weighed ${first.toFixed(1)} MB after the first sixth and ${last.toFixed(1)} after the last`);
  print(kept ? "1 passed, 0 failed" : "0 passed, 1 failed");
  if (!kept) process.exitCode = 1;
} finally {
  const { items } = await client.listPodSandbox({}).catch(() => ({ items: [] }));
  for (const { id } of items) await client.removePodSandbox({ podSandboxId: id ?? "" });
  client.close();
  await daemon.stop();
  await registry.stop();
  execFileSync("sh", ["-c", `ip link delete ${bridge} 2>/dev/null || true`]);
  await rm(directory, { recursive: true, force: true });
}

/** One pod from its start to its removal, with the calls that a kubelet makes in between. */
async function cycle(): Promise<void> {
  const { sandbox, container } = await startPod(client, { ...plan, name: `churn-${counts.pods}` });
  for (let count = 0; count < 2; count += 1) await client.execSync({ containerId: container, cmd: ["true"] });
  await client.listPodSandbox({});
  await client.listContainers({});
  await client.containerStatus({ containerId: container, verbose: true });
  await client.listContainerStats({});
  await client.listPodSandboxStats({});
  await client.removePodSandbox({ podSandboxId: sandbox });
  counts.pods += 1;
  counts.execs += 2;
  counts.lists += 4;
}

async function pullAndRemove(): Promise<void> {
  const large = { image: `${images.address}/large:1` };
  await client.pullImage({ image: large });
  await client.removeImage({ image: large });
  counts.pulls += 1;
}

async function printRow(): Promise<void> {
  await delay(settleMs);
  const weight = await megabytesAlone(daemon.pid);
  const monitors = await Promise.all((await monitorPids(directory)).map(proportionalKilobytes));
  const cells = [
    [Math.round((performance.now() - begin) / 60_000), 6],
    [counts.pods, 8],
    [counts.execs, 8],
    [counts.lists, 8],
    [counts.pulls, 7],
    [weight.toFixed(1), 11],
    [(monitors.reduce((sum, kilobytes) => sum + kilobytes, 0) / 1024).toFixed(1), 13],
    [(await readdir(`/proc/${daemon.pid}/fd`)).length, 13],
    [(await loopLagMs()).toFixed(1), 13],
  ] as const;
  print(cells.map(([cell, width]) => String(cell).padStart(width)).join(""));
  weights.push(weight);
}

/**
 * Lag of the event loop since the previous scrape, at which prom-client resets its histogram. The metric is the time
 * between two samples.
 */
async function loopLagMs(): Promise<number> {
  const text = await (await fetch(`http://${metricsAddress}/metrics`)).text();
  return Number(/^nodejs_eventloop_lag_p99_seconds (\S+)$/m.exec(text)?.[1]) * 1000 - loopPrecision;
}

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listenOnLoopback(server);
  server.close();
  return port;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
