// `npm run e2e:critest`: runs critest v1.37.0 against a fresh server, with stand-ins for the images that it pulls.
//
// Without options: three sequential runs in random order, one with two parallel nodes, the streaming specs over
// WebSocket, and one run for each of the runtime handlers runc and crun. No spec is retried.
//   --once          one sequential run and the streaming specs over WebSocket (what .ci/run does)
//   --handler NAME  one run with that runtime handler
//   --focus REGEX   one sequential run of the specs that match
//   --seed NUMBER   repeats the order of specs of a run that printed this seed
// It runs below `tini -s`, a subreaper: PID 1 may reap late, and a killed process would look alive for seconds.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { startRegistry } from "../../../image/testing/registry.ts";
import { mountHugetlb } from "../../../native/testing/crun-host.ts";
import { connectCri } from "../../fixtures/client.ts";
import { type Daemon, startDaemon } from "../../fixtures/daemon.ts";
import { byDesign, captureHostState, differences } from "../../fixtures/host-state.ts";
import { ociHandlers } from "../../fixtures/oci-runtimes.ts";
import { criTool, critest, toolsDirectory } from "../../fixtures/tools.ts";
import { buildStandIns, critestRegistries, imageByDigest, pushStandIns } from "./images.ts";
import { readReport, type SpecResult } from "./report.ts";

const bridge = "keelson-crit0";
const subnet = "10.96.78.0/24";
/** containerd takes less than three minutes for the suite on a comparable machine. */
const runTimeoutMs = 15 * 60_000;

interface Run {
  readonly title: string;
  readonly flags: readonly string[];
}

const { values: options } = parseArgs({
  options: {
    once: { type: "boolean" },
    handler: { type: "string" },
    focus: { type: "string" },
    seed: { type: "string" },
  },
});
const websocket: Run = {
  title: "streaming over WebSocket",
  flags: ["-websocket-exec", "-websocket-attach", "-websocket-portforward", "-ginkgo.focus=Streaming"],
};
const whole: Run = { title: "sequential", flags: [] };
const withHandler = (handler: string): Run => ({ title: `handler ${handler}`, flags: [`-runtime-handler=${handler}`] });

function plan(): readonly Run[] {
  if (options.focus !== undefined) {
    const run = options.handler === undefined ? whole : withHandler(options.handler);
    return [{ ...run, flags: [...run.flags, `-ginkgo.focus=${options.focus}`] }];
  }
  if (options.handler !== undefined) return [withHandler(options.handler)];
  if (options.once === true) return [whole, websocket];
  const parallel: Run = { title: "two parallel nodes", flags: ["-parallel=2"] };
  return [whole, whole, whole, parallel, websocket, ...Object.keys(handlers).map(withHandler)];
}

const cache = toolsDirectory(process.env);
const handlers = await ociHandlers();
const [program, ginkgo] = [await critest(cache, imageByDigest.digest), await criTool("ginkgo", cache)];
if (program.kind === "unavailable") say(`skipped: ${program.reason}`);
else if (ginkgo.kind === "unavailable") say(`skipped: ${ginkgo.reason}`);
else {
  const { passed, failed } = await runAll(program.path, dirname(ginkgo.path));
  say(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
}

async function runAll(binary: string, ginkgoDirectory: string): Promise<{ passed: number; failed: number }> {
  await using undo = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "keelson-critest-"));
  undo.defer(() => rm(directory, { recursive: true, force: true }));
  undo.defer(await mountHugetlb());
  const registry = await startRegistry();
  undo.defer(() => registry.stop());
  await pushStandIns(registry, await buildStandIns(cache));
  const before = await captureHostState([]);

  const daemon = await startDaemon({
    directory,
    network: { bridge, subnet },
    handlers,
  });
  undo.defer(() => daemon.stop());
  undo.defer(async () => {
    await promisify(execFile)("ip", ["link", "delete", bridge]).catch(() => "never created");
  });
  await writeMirrors(directory, registry.address);
  undo.defer(() => removeAllPods(daemon));

  let [passed, failed] = [0, 0];
  const count = (ok: boolean) => {
    if (ok) passed += 1;
    else failed += 1;
  };
  for (const run of plan()) {
    const results = await runOnce(run, binary, ginkgoDirectory, daemon, directory);
    for (const result of results) if (result.state !== "skipped") count(result.state === "passed");
  }
  count(await leavesNothing(daemon, before));
  return { passed, failed };
}

/** Redirects all of critest's registries to the one on loopback (containerd's docs/hosts.md). */
async function writeMirrors(directory: string, address: string): Promise<void> {
  for (const name of critestRegistries) {
    const place = join(directory, "registries", name);
    await mkdir(place, { recursive: true });
    await writeFile(join(place, "hosts.toml"), `[host."http://${address}"]\ncapabilities = ["pull", "resolve"]\n`);
  }
}

async function runOnce(
  run: Run,
  binary: string,
  ginkgoDirectory: string,
  daemon: Daemon,
  directory: string,
): Promise<SpecResult[]> {
  const seed = options.seed ?? String(1 + Math.floor(Math.random() * 999_999));
  const [report, output] = [join(directory, "report.json"), join(directory, "critest.log")];
  await rm(report, { force: true });
  const flags = [
    `-runtime-endpoint=unix://${daemon.socket}`,
    `-config=${join(directory, "no-such-config.yaml")}`,
    "-ginkgo.flake-attempts=1",
    "-ginkgo.no-color",
    `-ginkgo.seed=${seed}`,
    `-ginkgo.json-report=${report}`,
    ...run.flags,
  ];
  say(`== ${run.title}: critest ${flags.slice(2).join(" ")}`);
  const log = openSync(output, "w");
  const began = performance.now();
  const child = spawn(binary, flags, {
    cwd: directory,
    stdio: ["ignore", log, log],
    env: { ...process.env, PATH: `${ginkgoDirectory}:${process.env.PATH}` },
    timeout: runTimeoutMs,
    killSignal: "SIGKILL",
  });
  await once(child, "exit");
  const seconds = (performance.now() - began) / 1000;
  const results = await readReport(report).catch(async (error: unknown) => {
    const tail = (await readFile(output, "utf8")).slice(-3000);
    throw new Error(`critest wrote no report; its output ends:\n${tail}`, { cause: error });
  });
  print(results, seconds);
  return results;
}

function print(results: readonly SpecResult[], seconds: number): void {
  const by = Map.groupBy(results, ({ state }) => state);
  const count = (state: SpecResult["state"]) => by.get(state)?.length ?? 0;
  for (const { name, message } of by.get("failed") ?? [])
    say(`FAIL  ${name}\n${message.replaceAll(/^/gm, "      ").trimEnd()}`);
  for (const [reason, specs] of Map.groupBy(by.get("skipped") ?? [], ({ message }) => message)) {
    say(`skipped, ${reason}:`);
    for (const { name } of specs) say(`      ${name}`);
  }
  say(`   ${count("passed")} ok, ${count("failed")} not, ${count("skipped")} skipped; ${seconds.toFixed(1)} s`);
}

async function removeAllPods(daemon: Daemon): Promise<void> {
  const client = connectCri(daemon.socket, 30_000);
  try {
    const { items } = await client.listPodSandbox({});
    for (const { id } of items) await client.removePodSandbox({ podSandboxId: id ?? "" });
  } finally {
    client.close();
  }
}

/** The specs remove what they create; nothing may be left on the host. */
async function leavesNothing(daemon: Daemon, before: Awaited<ReturnType<typeof captureHostState>>): Promise<boolean> {
  await removeAllPods(daemon);
  await daemon.stop();
  const left = differences(before, await captureHostState([])).filter(
    (line) => !byDesign(line) && !line.startsWith(`+ links: ${bridge}`),
  );
  await daemon.start();
  for (const line of left) say(`FAIL  left on the host: ${line}`);
  return left.length === 0;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
