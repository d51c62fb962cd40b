// CheckpointContainer with a real CRIU: what is in the archive, that it restores, and that the container runs on
// whatever becomes of the checkpoint.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, openSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import Long from "long";
import { afterAll, beforeAll, expect, type TestContext, test } from "vitest";
import { criuProgram } from "../fixtures/criu.ts";
import { counts, type NodeOptions, startNode, type TestNode } from "../fixtures/node.ts";
import { lacks, ociHandlers } from "../fixtures/oci-runtimes.ts";
import { monitorPids, proportionalKilobytes } from "../fixtures/processes.ts";
import { mountSilent } from "../fixtures/silent-file-system.ts";
import { until } from "../fixtures/steps.ts";
import { toolsDirectory } from "../fixtures/tools.ts";

const criu = await criuProgram(toolsDirectory(process.env));
const withCriu = test.skipIf(criu.kind === "unavailable").concurrent;
if (criu.kind === "unavailable") process.stdout.write(`skipped where CRIU is needed: ${criu.reason}\n`);
const realCriu = criu.kind === "available" ? criu.directory : "";
const handlers = await ociHandlers();

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "keelson-checkpoint-"));
});
afterAll(async () => {
  await rm(scratch, { recursive: true, force: true });
});

/** A node that is closed behind the test. */
async function nodeOf({ onTestFinished }: TestContext, options: NodeOptions): Promise<TestNode> {
  const node = await startNode(options);
  onTestFinished(() => node.close());
  return node;
}

const counter = "n=0; while true; do echo count $n; n=$((n + 1)); sleep 0.05; done";

interface Counting {
  readonly node: TestNode;
  readonly containerId: string;
  readonly log: string;
  readonly location: string;
  /** Of the container's first process. */
  readonly pid: number;
}

/** A pod with a container that counts; `pid`: PID namespace mode, 1 for one of its own. */
async function counting(
  node: TestNode,
  { pid = 1, runtimeHandler = "", script = counter, tty = false, image = node.image, userSpecifiedImage = "" } = {},
): Promise<Counting> {
  const pod = { ...node.podConfig("c"), linux: { securityContext: { namespaceOptions: { pid } } } };
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod, runtimeHandler });
  const config = {
    metadata: { name: "counter", attempt: 0 },
    image: { image, userSpecifiedImage },
    command: ["sh", "-c", script],
    logPath: "counter.log",
    tty,
    linux: { securityContext: { namespaceOptions: { pid } } },
  };
  const { containerId } = await node.client.createContainer({ podSandboxId, sandboxConfig: pod, config });
  await node.client.startContainer({ containerId });
  const log = join(node.logs, "counter.log");
  await counts(log, 3);
  const { info } = await node.client.containerStatus({ containerId, verbose: true });
  return { node, containerId, log, location: join(node.directory, "dump.tar"), pid: JSON.parse(info.info ?? "").pid };
}

async function runsOn({ log }: Counting): Promise<void> {
  const sofar = (await counts(log, 0)).length;
  const numbers = await counts(log, sofar + 5);
  expect(numbers).toEqual(numbers.map((_, index) => index));
}

function unfinished(node: TestNode): string[] {
  const directory = join(node.directory, "root/checkpoints");
  return existsSync(directory) ? readdirSync(directory) : [];
}

function partials(node: TestNode): string[] {
  return readdirSync(node.directory).filter((name) => name.endsWith(".partial"));
}

function leavesNothing({ node }: Counting): void {
  expect(partials(node)).toEqual([]);
  expect(unfinished(node)).toEqual([]);
  const left = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, "utf8").includes(`${node.directory}/root/checkpoints`);
      } catch {
        return false;
      }
    });
  expect(left).toEqual([]);
}

/** A directory with a `criu` that runs `dump` in place of the real command. */
async function fakeCriu(name: string, dump: string): Promise<string> {
  const directory = join(scratch, name);
  await mkdir(directory);
  const script = `#!/bin/sh\ncase $1 in\n--version) echo "Version: 9.9" ;;\ncheck) exit 0 ;;\n*) ${dump} ;;\nesac\n`;
  writeFileSync(join(directory, "criu"), script);
  await chmod(join(directory, "criu"), 0o755);
  return directory;
}

withCriu("a container is written down, runs on, and is restored by criu where it was", async (context) => {
  const node = await nodeOf(context, { programs: realCriu });
  const changes =
    "echo new > /tmp/new; rm /etc/group; rm -r /root; mkdir /root; echo mine > /root/mine; ln /tmp/new /tmp/same; ln -s ./new /tmp/link";
  markDirectories(join(node.directory, "root/image/layers"));
  const counted = await counting(node, { script: `${changes}; ${counter}` });
  const { containerId, location } = counted;
  await node.client.checkpointContainer({ containerId, location });
  const seen = (await counts(counted.log, 0)).length;
  await runsOn(counted);
  leavesNothing(counted);

  expect(statSync(location).mode & 0o777).toBe(0o600);
  const unpacked = join(scratch, "unpacked");
  await mkdir(unpacked);
  execFileSync("tar", ["-xf", location, "-C", unpacked]);
  const json = (name: string) => JSON.parse(readFileSync(join(unpacked, name), "utf8"));
  expect(json("config.dump")).toMatchObject({ id: containerId, name: "counter", rootfsImageName: node.image });
  expect(json("spec.dump")).toMatchObject({ process: { args: ["sh", "-c", expect.stringContaining("count")] } });
  expect(json("deleted.files")).toEqual(["etc/group"]);
  expect(readdirSync(unpacked)).toEqual(expect.arrayContaining(["checkpoint", "dump.log", "stats-dump"]));
  const diff = execFileSync("tar", ["-tf", join(unpacked, "rootfs-diff.tar")], { encoding: "utf8" });
  expect(diff.split("\n")).toEqual(expect.arrayContaining(["tmp/new", "root/mine", "tmp/same"]));
  expect(diff).not.toContain("etc/group");
  expect(readFileSync(join(unpacked, "rootfs-diff.tar"), "latin1")).not.toContain("trusted.");
  expect(execFileSync("tar", ["-tf", location], { encoding: "utf8" }).split("\n")).toContain("config.dump");

  await node.client.stopContainer({ containerId, timeout: Long.ZERO });
  const numbers = await restore(unpacked, counted, json("checkpoint/descriptors.json"));
  expect(numbers[0]).toBeGreaterThan(0);
  expect(numbers[0]).toBeLessThanOrEqual(seen);
  expect(numbers).toEqual(numbers.map((_, index) => (numbers[0] ?? 0) + index));
});

/** As unpacking does with /tmp of a layer that has no entry for a directory in it. */
function markDirectories(layers: string): void {
  const mark = "import os, sys; [os.setxattr(path, 'trusted.keelson.unnamed', b'n') for path in sys.argv[1:]]";
  const directories = readdirSync(layers).map((name) => join(layers, name, "root/tmp"));
  execFileSync("python3", ["-c", mark, ...directories]);
}

/** Runs the images in this host's network, over the container's root; the first numbers that it counts. */
async function restore(
  unpacked: string,
  { node, containerId }: Counting,
  streams: readonly string[],
): Promise<number[]> {
  const root = join(scratch, "root");
  await mkdir(root);
  const { info } = await node.client.containerStatus({ containerId, verbose: true });
  const { bundle, runtimeSpec } = JSON.parse(info.info ?? "");
  const { lower } = JSON.parse(readFileSync(join(bundle, "rootfs.json"), "utf8"));
  for (const name of ["upper", "work"]) await mkdir(join(scratch, name));
  const overlay = `lowerdir=${lower.join(":")},upperdir=${scratch}/upper,workdir=${scratch}/work`;
  execFileSync("mount", ["-t", "overlay", "-o", overlay, "overlay", root]);
  for (const path of JSON.parse(readFileSync(join(unpacked, "deleted.files"), "utf8")))
    await rm(join(root, path), { recursive: true });
  execFileSync("tar", ["-xf", join(unpacked, "rootfs-diff.tar"), "-C", root]);
  expect(readlinkSync(join(root, "tmp/link"))).toBe("./new");
  expect(statSync(join(root, "tmp/same")).nlink).toBe(2);
  const output = join(scratch, "restored.log");
  const outputs = [1, 2].map(() => openSync(output, "a"));
  const binds = new Map<string, string>(
    runtimeSpec.mounts.map(({ destination, source }: { destination: string; source: string }) => [destination, source]),
  );
  // What was not the container's own, from this host: its bind mounts and the cgroups.
  for (const name of readdirSync("/sys/fs/cgroup")) binds.set(`/sys/fs/cgroup/${name}`, `/sys/fs/cgroup/${name}`);
  // Masked files are covered with the host's /dev/null; runc's restore gives the same.
  for (const path of runtimeSpec.linux.maskedPaths) binds.set(path, "/dev/null");
  const mounts = [...binds].flatMap(([at, source]) => ["--external", `mnt[${at}]:${source}`]);
  const pidfile = join(scratch, "restored.pid");
  const inherited = ["fd[1]", "fd[2]"].map((fd, index) => ["--inherit-fd", `${fd}:${streams[index + 1]}`]);
  const args = [
    ...["restore", "--images-dir", join(unpacked, "checkpoint"), "--work-dir", scratch, "--log-file", "restore.log"],
    ...["--root", root, "--restore-detached", "--pidfile", pidfile, "--manage-cgroups=ignore"],
    ...["--tcp-established", "--ext-unix-sk", "--file-locks", "--inherit-fd", "fd[3]:extRootNetNS"],
    ...mounts,
    ...inherited.flat(),
  ];
  try {
    const stdio = ["ignore", ...outputs, openSync("/proc/self/ns/net", "r")] as const;
    const child = spawn(join(realCriu, "criu"), args, { stdio: [...stdio] });
    const [code] = await once(child, "exit");
    const log = readFileSync(join(scratch, "restore.log"), "utf8");
    expect(code, log.split("\n").slice(-20).join("\n")).toBe(0);
    return await counts(output, 5);
  } finally {
    if (existsSync(pidfile)) process.kill(Number(readFileSync(pidfile, "utf8")), "SIGKILL");
    await delay(100);
    execFileSync("umount", ["--lazy", root]);
  }
}

test.concurrent("the archive names the pod, and the image as the pod's spec does where the kubelet gave an id", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu("writes-nothing", "exit 0") });
  const { image } = await node.client.imageStatus({ image: { image: node.image } });
  const counted = await counting(node, { image: image?.id ?? "", userSpecifiedImage: node.image });
  await node.client.checkpointContainer({ containerId: counted.containerId, location: counted.location });
  const json = (name: string) =>
    JSON.parse(execFileSync("tar", ["-xOf", counted.location, name], { encoding: "utf8" }));
  expect(json("config.dump")).toMatchObject({
    rootfsImage: node.image,
    rootfsImageName: node.image,
    rootfsImageRef: image?.id,
  });
  // As checkpointctl looks for them.
  expect(json("spec.dump").annotations).toMatchObject({
    "io.kubernetes.cri.container-name": "counter",
    "io.kubernetes.cri.sandbox-name": "c",
    "io.kubernetes.cri.sandbox-namespace": "test",
  });
});

test.concurrent("a file beside the location stays, however it is named", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu("writes-nothing-again", "exit 0") });
  const { containerId, location } = await counting(node);
  writeFileSync(`${location}.partial`, "somebody's");
  await node.client.checkpointContainer({ containerId, location });
  expect(readFileSync(`${location}.partial`, "utf8")).toBe("somebody's");
  const long = join(node.directory, `${"x".repeat(250)}.tar`);
  await node.client.checkpointContainer({ containerId, location: long });
  expect(existsSync(long)).toBe(true);
});

test.concurrent("what came to the location meanwhile stays", async (context) => {
  const location = join(scratch, "taken.tar");
  const node = await nodeOf(context, { programs: await fakeCriu("is-overtaken", `echo mine > ${location}`) });
  const counted = await counting(node);
  await expect(node.client.checkpointContainer({ containerId: counted.containerId, location })).rejects.toMatchObject({
    code: status.ALREADY_EXISTS,
    details: expect.stringContaining(location),
  });
  expect(readFileSync(location, "utf8")).toBe("mine\n");
  leavesNothing(counted);
});

/** A directory with a `criu` that writes nothing, and a `tar` that sleeps instead of ending the last archive, that of config.dump. */
async function endlessTar(name: string, seconds: number): Promise<string> {
  const directory = await fakeCriu(name, "exit 0");
  const tar = `#!/bin/sh\ncase "$*" in\n*config.dump*) echo half-made; exec sleep ${seconds} ;;\n*) exec /usr/bin/tar "$@" ;;\nesac\n`;
  writeFileSync(join(directory, "tar"), tar, { mode: 0o755 });
  return directory;
}

test.concurrent("locations whose file system does not answer are refused, and hold up nothing else", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu("goes-nowhere", "exit 0") });
  const counted = await counting(node);
  const silent = join(node.directory, "silent");
  await mkdir(silent);
  await using _silent = await mountSilent(silent);
  // More than Node.js has threads for files.
  const refused = Array.from({ length: 6 }, (_, index) =>
    expect(
      node.client.checkpointContainer({ containerId: counted.containerId, location: join(silent, `${index}.tar`) }),
    ).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining("its file system has not answered for 10 s"),
    }),
  );
  await node.client.checkpointContainer({ containerId: counted.containerId, location: counted.location }, 8_000);
  await Promise.all(refused);
  leavesNothing(counted);
});

test.concurrent("a stop and the daemon's end do not wait for a location that answers no more", async (context) => {
  const node = await nodeOf(context, { programs: await endlessTar("is-cut-off", 1004) });
  const counted = await counting(node);
  const { containerId } = counted;
  const archives = join(node.directory, "archives");
  await mkdir(archives);
  const location = join(archives, "dump.tar");
  const lost = node.client.checkpointContainer({ containerId, location }).catch(() => "lost");
  await until("the archive is begun", 5000, async () => (sleepers(1004).length > 0 ? true : undefined));
  {
    await using _silent = await mountSilent(archives);
    const began = performance.now();
    await node.client.stopContainer({ containerId, timeout: Long.ZERO });
    await node.client.removeContainer({ containerId });
    await node.daemon.stop();
    expect(performance.now() - began).toBeLessThan(8_000);
  }
  expect(await lost).toBe("lost");
  expect(readdirSync(archives)).toHaveLength(1);
  await node.daemon.start();
  await until("nothing is under way", 5000, async () => (unfinished(node).length === 0 ? true : undefined));
  expect(readdirSync(archives)).toEqual([]);
});

test.concurrent("of a daemon that dies while it writes the archive nothing is left", async (context) => {
  const node = await nodeOf(context, { programs: await endlessTar("writes-nothing-ever", 1003) });
  const counted = await counting(node);
  const archives = join(node.directory, "archives");
  await mkdir(archives);
  const location = join(archives, "dump.tar");
  const lost = node.client.checkpointContainer({ containerId: counted.containerId, location }).catch(() => "lost");
  await until("the archive is begun", 5000, async () => (sleepers(1003).length > 0 ? true : undefined));
  expect(readdirSync(archives)).toHaveLength(1);
  await node.daemon.kill();
  expect(await lost).toBe("lost");
  for (const pid of sleepers(1003)) process.kill(pid, "SIGKILL");
  await node.daemon.start();
  await until("nothing is under way", 5000, async () => (unfinished(node).length === 0 ? true : undefined));
  expect(readdirSync(archives)).toEqual([]);
  await runsOn(counted);
});

withCriu.for<[string, { pid?: number; runtimeHandler?: string }]>([
  ["native, in the pod's PID namespace", { pid: 0 }],
  ["native, in the host's PID namespace", { pid: 2 }],
  ["runc", { runtimeHandler: "runc" }],
  ["crun", { runtimeHandler: "crun" }],
])("%s", async ([, options], context) => {
  context.skip(lacks(handlers, options.runtimeHandler ?? "native"));
  const node = await nodeOf(context, { programs: realCriu, handlers });
  const counted = await counting(node, options);
  const [monitor = 0] = await monitorPids(node.directory);
  await node.client.checkpointContainer({ containerId: counted.containerId, location: counted.location });
  await runsOn(counted);
  leavesNothing(counted);
  expect(statSync(counted.location).size).toBeGreaterThan(10_000);
  expect(await proportionalKilobytes(monitor)).toBeLessThan(4000);
});

withCriu("broken off at any moment, twenty times, it leaves the container running", async (context) => {
  const node = await nodeOf(context, { programs: realCriu });
  const counted = await counting(node);
  const { containerId, location } = counted;
  const outcomes: number[] = [];
  for (let round = 0; round < 20; round += 1) {
    const limitMs = 20 + round * 12;
    const code = await node.client.checkpointContainer({ containerId, location: `${location}.${round}` }, limitMs).then(
      () => status.OK,
      ({ code }) => code,
    );
    outcomes.push(code);
    await until("the checkpoint is over", 5000, async () => (unfinished(node).length === 0 ? true : undefined));
    await runsOn(counted);
  }
  process.stdout.write(`      ${outcomes.filter((code) => code === status.OK).length} of 20 were done in time\n`);
  expect(outcomes).toContain(status.DEADLINE_EXCEEDED);
  leavesNothing(counted);
});

test.concurrent("a criu that hangs ends at the deadline, and a stop does not wait for it", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu("hangs", "sleep 1000") });
  const counted = await counting(node);
  const { containerId, location } = counted;
  await expect(node.client.checkpointContainer({ containerId, location, timeout: Long.ONE })).rejects.toMatchObject({
    code: status.DEADLINE_EXCEEDED,
    details: expect.stringContaining("within 1 s"),
  });
  await runsOn(counted);
  leavesNothing(counted);

  const hanging = node.client.checkpointContainer({ containerId, location }).catch((error: unknown) => error);
  await until("it is frozen", 5000, async () => (isFrozen(counted) ? true : undefined));
  await expect(node.client.checkpointContainer({ containerId, location })).rejects.toMatchObject({
    code: status.ABORTED,
    details: expect.stringContaining("already"),
  });
  const began = performance.now();
  await node.client.stopContainer({ containerId, timeout: Long.ZERO });
  expect(performance.now() - began).toBeLessThan(2000);
  expect(await hanging).toMatchObject({ code: status.ABORTED, details: expect.stringContaining("stopped") });
  leavesNothing(counted);
});

test.concurrent("none begins in a container that is being stopped: it has its grace to end in", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu("comes-late", "exec sleep 1005") });
  const script = `trap 'echo told; sleep 1; exit 3' TERM; ${counter}`;
  const { containerId, location, log } = await counting(node, { script });
  const stopping = node.client.stopContainer({ containerId, timeout: Long.fromNumber(5) });
  await until("it is told", 4000, async () => (readFileSync(log, "utf8").includes("told") ? true : undefined));
  const checkpoint = node.client.checkpointContainer({ containerId, location }).catch((error: unknown) => error);
  await stopping;
  expect((await node.client.containerStatus({ containerId })).status?.exitCode).toBe(3);
  expect(await checkpoint).toMatchObject({
    code: status.ABORTED,
    details: expect.stringContaining("is being stopped"),
  });
});

test.concurrent("of two calls at once one is refused, and a daemon that is told to end breaks the other off", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu("hangs-twice", "sleep 1001") });
  const counted = await counting(node);
  const { containerId, location } = counted;
  const codes: number[] = [];
  const calls = ["a", "b"].map((name) =>
    node.client
      .checkpointContainer({ containerId, location: `${location}.${name}` })
      .catch(({ code }) => codes.push(code)),
  );
  await until("one is refused", 5000, async () => (codes.length > 0 ? true : undefined));
  expect(codes).toEqual([status.ABORTED]);
  await until("it is frozen", 5000, async () => (isFrozen(counted) ? true : undefined));
  await node.daemon.stop();
  await Promise.all(calls);
  expect(isFrozen(counted)).toBe(false);
  expect(sleepers(1001)).toEqual([]);
  await runsOn(counted);
  await node.daemon.start();
});

test.concurrent("a daemon that dies meanwhile thaws the container when it is back", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu("hangs-on", "sleep 1002") });
  const counted = await counting(node);
  const { containerId, location } = counted;
  const lost = node.client.checkpointContainer({ containerId, location }).catch(() => "lost");
  await until("it is frozen", 5000, async () => (isFrozen(counted) ? true : undefined));
  await node.daemon.kill();
  expect(await lost).toBe("lost");
  expect(isFrozen(counted)).toBe(true);
  for (const pid of sleepers(1002)) process.kill(pid, "SIGKILL");
  await node.daemon.start();
  await runsOn(counted);
  expect(unfinished(node)).toEqual([]);
});

/** The fake criu's, which outlives its daemon. */
function sleepers(seconds: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8") === `sleep\0${seconds}\0` && isOfHost(pid);
      } catch {
        return false;
      }
    });
}

function isOfHost(pid: number): boolean {
  return readlinkSync(`/proc/${pid}/ns/mnt`) === readlinkSync("/proc/self/ns/mnt");
}

function isFrozen({ pid }: Counting): boolean {
  // v1's freezer stops a process in the kernel; so does v2's, and both say so.
  const [, path = ""] = /freezer:(.*)/.exec(readFileSync(`/proc/${pid}/cgroup`, "utf8")) ?? [];
  return readFileSync(`/sys/fs/cgroup/freezer${path}/freezer.state`, "utf8").startsWith("FROZEN");
}

test.concurrent("what cannot be checkpointed is refused in words", async (context) => {
  // In CRIU's words: the cause, what became of its step, and the end.
  const errors = [
    "(sk-unix.c:1): no such trick",
    "(cr-dump.c:2): Dump files (pid: 7) failed with -1",
    "(cr-dump.c:3): Dumping FAILED.",
  ];
  const failing = `${errors.map((error) => `echo "(00.1) Error ${error}" >&2`).join("; ")}; exit 1`;
  const node = await nodeOf(context, { programs: await fakeCriu("fails", failing) });
  const counted = await counting(node);
  const { containerId, location } = counted;
  const refusal = async (request: object) =>
    await node.client.checkpointContainer({ containerId, location, ...request }).then(
      () => "done",
      ({ code, details }) => [code, details],
    );
  expect(await refusal({})).toEqual([status.INTERNAL, expect.stringContaining("no such trick")]);
  expect(await refusal({ location: "dump.tar" })).toEqual([
    status.INVALID_ARGUMENT,
    expect.stringContaining("location"),
  ]);
  expect(await refusal({ location: "/no/such/dump.tar" })).toEqual([
    status.INVALID_ARGUMENT,
    expect.stringContaining("/no/such"),
  ]);
  expect(await refusal({ location: node.directory })).toEqual([
    status.ALREADY_EXISTS,
    expect.stringContaining(node.directory),
  ]);
  expect(await refusal({ timeout: Long.NEG_ONE })).toEqual([
    status.INVALID_ARGUMENT,
    expect.stringContaining("timeout"),
  ]);
  expect(await refusal({ containerId: "f".repeat(64) })).toEqual([status.NOT_FOUND, expect.any(String)]);
  await runsOn(counted);
  leavesNothing(counted);
  await node.client.stopContainer({ containerId, timeout: Long.ZERO });
  expect(await refusal({})).toEqual([status.FAILED_PRECONDITION, expect.stringContaining("exited")]);
});

test.concurrent("a container with a terminal is refused in words", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu("terminal", "exit 0") });
  const { containerId, location } = await counting(node, { tty: true });
  await expect(node.client.checkpointContainer({ containerId, location })).rejects.toMatchObject({
    code: status.UNIMPLEMENTED,
    details: expect.stringContaining("terminal"),
  });
});

test.concurrent("without a CRIU that works it says why", async (context) => {
  const broken = join(scratch, "broken");
  await mkdir(broken);
  writeFileSync(
    join(broken, "criu"),
    '#!/bin/sh\n[ $1 = --version ] && echo "Version: 3.17.1" && exit\necho "Error (vdso.c:1): vdso: Unexpected bounds" >&2\nexit 1\n',
  );
  await chmod(join(broken, "criu"), 0o755);
  const node = await nodeOf(context, { programs: broken });
  const counted = await counting(node);
  await expect(
    node.client.checkpointContainer({ containerId: counted.containerId, location: counted.location }),
  ).rejects.toMatchObject({
    code: status.UNIMPLEMENTED,
    details: expect.stringMatching(/criu 3\.17\.1 does not work on this kernel: vdso: Unexpected bounds.*Install/s),
  });
  await runsOn(counted);
  leavesNothing(counted);
});
