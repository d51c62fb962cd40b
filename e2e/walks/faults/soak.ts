// Thousands of pods, eight at a time, through their complete life; the resources of the daemon and the host are
// measured after each quarter, when idle.

import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import Long from "long";
import { placesOf, viewHost } from "../../fixtures/host-view.ts";
import { startNode, type TestNode } from "../../fixtures/node.ts";
import { anonymousKilobytes, descriptors } from "../../fixtures/processes.ts";

const atOnce = 8;
const quarters = 4;
/** Enough for sockets to close, timers to fire and the garbage collector to run. */
const restMs = 3_000;
/**
 * Flat means that no counter is higher after the last quarter than after the first by more than this; counters that are
 * not listed may not grow. A leak of 8 kB per pod is 12 MB in three quarters of 2,000.
 */
const slack: ReadonlyMap<string, number> = new Map([
  ["RssAnon kB", 12_000],
  ["descriptors", 2],
  ["threads", 1],
  ["bytes below run/", 4096],
  ["bytes below root/", 65_536],
]);

type Counters = ReadonlyMap<string, number>;

/** One sentence for each counter that is not flat. */
export async function soak(pods: number, say: (line: string) => void, signal: AbortSignal): Promise<readonly string[]> {
  await using undo = new AsyncDisposableStack();
  const node = await startNode();
  undo.defer(() => node.close());
  const everSeen = new Set<string>();
  const measured: Counters[] = [];
  let next = 0;
  const begin = performance.now();
  for (let quarter = 1; quarter <= quarters; quarter += 1) {
    const end = Math.round((pods * quarter) / quarters);
    const work = async (): Promise<void> => {
      while (next < end) {
        signal.throwIfAborted();
        next += 1;
        everSeen.add(await runLifecycle(node, next));
      }
    };
    await Promise.all(Array.from({ length: atOnce }, work));
    await delay(restMs);
    const counters = await count(node, everSeen);
    measured.push(counters);
    const seconds = Math.round((performance.now() - begin) / 1000);
    say(`      ${end} pods, ${seconds} s: ${inWords(counters)}`);
  }
  return notFlat(measured);
}

async function runLifecycle({ client, podConfig, runContainer }: TestNode, number: number): Promise<string> {
  const config = {
    ...podConfig(`soak-${number}`),
    portMappings: [{ containerPort: 80, hostPort: 30_000 + (number % 64) }],
  };
  const { podSandboxId } = await client.runPodSandbox({ config });
  const containerId = await runContainer(config, podSandboxId, `soak-${number % 64}`, "exec sleep 100000");
  const { exitCode } = await client.execSync({ containerId, cmd: ["true"], timeout: Long.fromNumber(10) });
  if (exitCode !== 0) throw new Error(`exec in pod ${number} exited with ${exitCode}`);
  await client.stopContainer({ containerId, timeout: Long.ZERO });
  await client.removeContainer({ containerId });
  await client.stopPodSandbox({ podSandboxId });
  await client.removePodSandbox({ podSandboxId });
  return podSandboxId;
}

async function count(node: TestNode, everSeen: ReadonlySet<string>): Promise<Counters> {
  const { daemon, directory, bridge } = node;
  const host = await viewHost(node, bridge, everSeen);
  const [run, root] = [await below(join(directory, "run")), await below(join(directory, "root"))];
  return new Map(
    Object.entries({
      "RssAnon kB": await anonymousKilobytes(daemon.pid),
      descriptors: await descriptors(daemon.pid),
      threads: (await readdir(`/proc/${daemon.pid}/task`)).length,
      mounts: (await readFile("/proc/self/mountinfo", "utf8")).split("\n").filter((line) => line.includes(directory))
        .length,
      "pinned netns": host.mounts.filter(({ line }) => dirname(line) === placesOf(directory).namespaces).length,
      cgroups: host.cgroups.length,
      links: host.ports.length,
      rules: host.rules.length,
      leases: host.leases.size,
      processes: host.monitors.size + host.helpers.length + host.cgroups.flatMap(({ processes }) => processes).length,
      "files below run/": run.files,
      "files below root/": root.files,
      "bytes below run/": run.bytes,
      "bytes below root/": root.bytes,
    }),
  );
}

async function below(directory: string): Promise<{ files: number; bytes: number }> {
  const { stdout } = await promisify(execFile)("find", [directory, "-printf", "%s\n"], { maxBuffer: 64 << 20 });
  const sizes = stdout.trim().split("\n").map(Number);
  return { files: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

function inWords(counters: Counters): string {
  return [...counters].map(([name, value]) => `${name} ${value}`).join(", ");
}

function notFlat(measured: readonly Counters[]): string[] {
  const [first, last] = [measured[0], measured.at(-1)];
  if (first === undefined || last === undefined) return ["nothing was measured"];
  return [...first].flatMap(([name, before]) => {
    const [allowed, after] = [slack.get(name) ?? 0, last.get(name) ?? Number.NaN];
    const series = measured.map((counters) => counters.get(name)).join(", ");
    return after - before <= allowed ? [] : [`${name} is not flat: ${series} (at most ${allowed} more at the end)`];
  });
}
