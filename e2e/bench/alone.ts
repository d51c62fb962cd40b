// `npm run bench`: p50 and p95 of the hot paths on this machine, and the memory of the processes.
//
// One daemon with its own image and bridge network; nothing else should run at the same time. Bare crun, when it is
// installed, is measured in the same run as the floor of execs.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import Long from "long";
import { buildBusyboxImage } from "../fixtures/busybox-image.ts";
import { type CriClient, connectCri } from "../fixtures/client.ts";
import { startDaemon } from "../fixtures/daemon.ts";
import { monitorPids, proportionalKilobytes } from "../fixtures/processes.ts";
import { percentile } from "./peers/report/samples.ts";
import { containerRequest, type PodPlan, sandboxConfig, startPod } from "./pod.ts";

const rounds = Number(process.env.KEELSON_BENCH_ROUNDS ?? 30);
const containersForLists = 100;
const bridge = "keelson-bench0";
const image = "localhost/bench/busybox:1";

const directory = await mkdtemp(join(tmpdir(), "keelson-bench-"));
const runDirectory = join(directory, "run");
await mkdir(runDirectory);
// Like /run on a node; in this program's own mount namespace.
execFileSync("mount", ["-t", "tmpfs", "tmpfs", runDirectory]);
const daemon = await startDaemon({ directory, runDirectory, network: { bridge, subnet: "10.97.0.0/16" } });
const client = connectCri(daemon.socket);
try {
  daemon.keelson("image", "load", await buildBusyboxImage(join(directory, "image"), image));
  print(`keelson, Node ${process.version}, Linux ${release()}, ${cpus().length} × ${cpus()[0]?.model}`);
  print(`${rounds} rounds; milliseconds`);
  print("");
  row("what", "p50", "p95");
  await benchPodStarts(client);
  await benchExec(client);
  await benchLists(client);
} finally {
  client.close();
  await daemon.stop();
  execFileSync("ip", ["link", "delete", bridge], { stdio: "ignore" });
  execFileSync("umount", ["--lazy", runDirectory]);
  await rm(directory, { recursive: true, force: true });
}

async function benchPodStarts(cri: CriClient): Promise<void> {
  const timings = new Map<string, number[]>();
  const time = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const begin = performance.now();
    const result = await work();
    const list = timings.get(name) ?? [];
    list.push(performance.now() - begin);
    timings.set(name, list);
    return result;
  };
  for (let round = 0; round < rounds; round += 1) {
    const pod = plan(`start-${round}`);
    const { podSandboxId } = await time(
      "RunPodSandbox",
      async () => await cri.runPodSandbox({ config: sandboxConfig(pod) }),
    );
    const { containerId } = await time(
      "CreateContainer",
      async () => await cri.createContainer(containerRequest(podSandboxId, pod)),
    );
    await time("StartContainer", async () => await cri.startContainer({ containerId }));
    await time(
      "StopContainer (obeys TERM)",
      async () => await cri.stopContainer({ containerId, timeout: Long.fromNumber(10) }),
    );
    await time("StopPodSandbox", async () => await cri.stopPodSandbox({ podSandboxId }));
    await time("RemovePodSandbox", async () => await cri.removePodSandbox({ podSandboxId }));
  }
  const start = ["RunPodSandbox", "CreateContainer", "StartContainer"].map((name) => timings.get(name) ?? []);
  for (const [name, values] of timings) report(name, values);
  report(
    "pod start in all (the first three)",
    (start[0] ?? []).map((value, at) => value + (start[1]?.[at] ?? 0) + (start[2]?.[at] ?? 0)),
  );
}

async function benchExec(cri: CriClient): Promise<void> {
  const { sandbox: podSandboxId, container: containerId } = await startPod(cri, plan("exec"));
  const times: number[] = [];
  const before = await cpuMilliseconds();
  const execs = rounds * 10;
  for (let round = 0; round < execs; round += 1) {
    const begin = performance.now();
    const { exitCode } = await cri.execSync({ containerId, cmd: ["true"] });
    if (exitCode !== 0) throw new Error(`true answered ${exitCode}`);
    times.push(performance.now() - begin);
  }
  report("ExecSync true", times);
  row("  CPU of daemon and monitor for each", ((await cpuMilliseconds()) - before) / execs, Number.NaN);
  await cri.removePodSandbox({ podSandboxId });
  if (existsSync("/usr/bin/crun")) report("  floor: bare crun exec true", await crunExecTimes());
}

async function benchLists(cri: CriClient): Promise<void> {
  const pods: string[] = [];
  for (let index = 0; index < containersForLists; index += 1) {
    pods.push((await startPod(cri, plan(`list-${index}`))).sandbox);
  }
  const repeat = async (work: () => Promise<unknown>): Promise<number[]> => {
    const times: number[] = [];
    for (let round = 0; round < rounds * 5; round += 1) {
      const begin = performance.now();
      await work();
      times.push(performance.now() - begin);
    }
    return times;
  };
  report("Version", await repeat(async () => await cri.version({})));
  report(`ListContainers, ${containersForLists}`, await repeat(async () => await cri.listContainers({})));
  report(`ListPodSandbox, ${containersForLists}`, await repeat(async () => await cri.listPodSandbox({})));
  report(`ListContainerStats, ${containersForLists}`, await repeat(async () => await cri.listContainerStats({})));
  report(`ListPodSandboxStats, ${containersForLists}`, await repeat(async () => await cri.listPodSandboxStats({})));

  const monitors = await monitorPids(directory);
  const pss = await Promise.all(monitors.map(proportionalKilobytes));
  print("");
  print(`PSS, kB, with ${containersForLists} pods of one container each:`);
  row("  daemon", await proportionalKilobytes(daemon.pid), Number.NaN);
  row("  one monitor (p50, largest)", percentile(pss, 0.5), Math.max(...pss));
  row(
    "  all monitors",
    pss.reduce((sum, value) => sum + value, 0),
    Number.NaN,
  );
  await Promise.all(pods.map(async (podSandboxId) => await cri.removePodSandbox({ podSandboxId }, 240_000)));
}

/** The kernel ignores SIGTERM for PID 1 without a handler; the trap makes the shell exit. */
function plan(name: string): PodPlan {
  return { name, image, directory, command: ["sh", "-c", 'trap "exit 0" TERM; sleep 3600 & wait'] };
}

/** `crun exec` of the same busybox, once per round: a new process each time, as for a server that uses crun. */
async function crunExecTimes(): Promise<number[]> {
  const bundle = join(directory, "crun-bundle");
  const rootfs = join(bundle, "rootfs");
  execFileSync("mkdir", ["-p", join(rootfs, "bin"), join(rootfs, "proc"), join(rootfs, "dev"), join(rootfs, "sys")]);
  execFileSync("cp", ["/bin/busybox", join(rootfs, "bin/busybox")]);
  execFileSync("ln", ["-s", "busybox", join(rootfs, "bin/true")]);
  execFileSync("ln", ["-s", "busybox", join(rootfs, "bin/sleep")]);
  execFileSync("crun", ["spec"], { cwd: bundle });
  const spec = JSON.parse(await readFile(join(bundle, "config.json"), "utf8"));
  spec.process.terminal = false;
  spec.process.args = ["/bin/sleep", "3600"];
  spec.process.capabilities = {};
  spec.process.rlimits = [];
  spec.linux.resources = {};
  execFileSync("tee", [join(bundle, "config.json")], {
    input: JSON.stringify(spec),
    stdio: ["pipe", "ignore", "inherit"],
  });
  const id = "keelson-bench-crun";
  const crun = (...args: string[]) =>
    execFileSync("crun", ["--root", join(directory, "crun-root"), ...args], { stdio: "ignore" });
  try {
    crun("run", "--detach", "--bundle", bundle, id);
  } catch {
    print(
      "  (crun does not run here, so its floor is missing: recent crun requires a v1 hugetlb hierarchy on hybrid hosts)",
    );
    return [];
  }
  try {
    return Array.from({ length: rounds }, () => {
      const begin = performance.now();
      crun("exec", id, "/bin/true");
      return performance.now() - begin;
    });
  } finally {
    crun("delete", "--force", id);
  }
}

/** User and system time of the daemon and all monitors, including their reaped children; proc(5) stat. */
async function cpuMilliseconds(): Promise<number> {
  const pids = [daemon.pid, ...(await monitorPids(directory))];
  const ticks = await Promise.all(
    pids.map(async (pid) => {
      const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]?.split(" ") ?? [];
      return [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index] ?? 0), 0);
    }),
  );
  return ticks.reduce((sum, value) => sum + value, 0) * 10;
}

function report(name: string, values: readonly number[]): void {
  if (values.length > 0) row(name, percentile(values, 0.5), percentile(values, 0.95));
}

function row(name: string, first: number | string, second: number | string): void {
  const cell = (value: number | string) =>
    (typeof value === "string" ? value : Number.isNaN(value) ? "" : value.toFixed(2)).padStart(10);
  print(`${name.padEnd(42)}${cell(first)}${cell(second)}`);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
