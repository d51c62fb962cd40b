// CheckpointContainer: the contents of the archive, a restore with a real CRIU, the container that keeps running, and
// refused requests. Interrupted checkpoints are tested in checkpoint-broken-off.test.ts.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, openSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import Long from "long";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type Counting,
  counter,
  counting,
  fakeCriu,
  leavesNothing,
  nodeOf,
  runsOn,
  unfinished,
} from "../fixtures/checkpoint.ts";
import { criuProgram } from "../fixtures/criu.ts";
import { counts } from "../fixtures/node.ts";
import { lacks, ociHandlers } from "../fixtures/oci-runtimes.ts";
import { monitorPids, proportionalKilobytes } from "../fixtures/processes.ts";
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

withCriu("a container is checkpointed, keeps running, and is restored by criu where it was", async (context) => {
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

withCriu("a container that has closed its standard error, as some daemons do, is checkpointed too", async (context) => {
  const node = await nodeOf(context, { programs: realCriu });
  const counted = await counting(node, { script: `exec 2>&-; ${counter}` });
  const { containerId, location } = counted;
  await node.client.checkpointContainer({ containerId, location });
  const streams = execFileSync("tar", ["-xOf", location, "checkpoint/descriptors.json"], { encoding: "utf8" });
  expect(JSON.parse(streams)).toEqual([expect.any(String), expect.stringMatching(/^pipe:/), ""]);
  await runsOn(counted);
  leavesNothing(counted);
});

/** Marks /tmp in each layer, as unpacking does for a directory that has no entry of its own in the layer. */
function markDirectories(layers: string): void {
  const mark = "import os, sys; [os.setxattr(path, 'trusted.keelson.unnamed', b'n') for path in sys.argv[1:]]";
  const directories = readdirSync(layers).map((name) => join(layers, name, "root/tmp"));
  execFileSync("python3", ["-c", mark, ...directories]);
}

/** Restores the images in the host's network, on the container's root; returns the first numbers that it counts. */
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
  // External mounts, provided by this host: the container's bind mounts and the cgroups.
  for (const name of readdirSync("/sys/fs/cgroup")) binds.set(`/sys/fs/cgroup/${name}`, `/sys/fs/cgroup/${name}`);
  // Masked files are covered with the host's /dev/null, as in a restore with runc.
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

test.concurrent("the archive names the pod, and the image as in the pod's spec even if the kubelet passed an ID", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu(context, "exit 0") });
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
  // The annotations that checkpointctl reads.
  expect(json("spec.dump").annotations).toMatchObject({
    "io.kubernetes.cri.container-name": "counter",
    "io.kubernetes.cri.sandbox-name": "c",
    "io.kubernetes.cri.sandbox-namespace": "test",
  });
});

test.concurrent("files next to the location are not touched, whatever their names", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu(context, "exit 0") });
  const { containerId, location } = await counting(node);
  writeFileSync(`${location}.partial`, "somebody's");
  await node.client.checkpointContainer({ containerId, location });
  expect(readFileSync(`${location}.partial`, "utf8")).toBe("somebody's");
  const long = join(node.directory, `${"x".repeat(250)}.tar`);
  await node.client.checkpointContainer({ containerId, location: long });
  expect(existsSync(long)).toBe(true);
});

test.concurrent("a file created at the location in the meantime is not overwritten", async (context) => {
  const location = join(scratch, "taken.tar");
  const node = await nodeOf(context, { programs: await fakeCriu(context, `echo mine > ${location}`) });
  const counted = await counting(node);
  await expect(node.client.checkpointContainer({ containerId: counted.containerId, location })).rejects.toMatchObject({
    code: status.ALREADY_EXISTS,
    details: expect.stringContaining(location),
  });
  expect(readFileSync(location, "utf8")).toBe("mine\n");
  leavesNothing(counted);
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

withCriu("interrupted twenty times, at random moments, it leaves the container running", async (context) => {
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
    await until("the checkpoint has ended", 5000, async () => (unfinished(node).length === 0 ? true : undefined));
    await runsOn(counted);
  }
  process.stdout.write(`      ${outcomes.filter((code) => code === status.OK).length} of 20 completed in time\n`);
  expect(outcomes).toContain(status.DEADLINE_EXCEEDED);
  leavesNothing(counted);
});

test.concurrent("a container that cannot be checkpointed gets an error with the reason", async (context) => {
  // CRIU's log: the cause, the failed step, and the final line.
  const errors = [
    "(sk-unix.c:1): no such trick",
    "(cr-dump.c:2): Dump files (pid: 7) failed with -1",
    "(cr-dump.c:3): Dumping FAILED.",
  ];
  const failing = `${errors.map((error) => `echo "(00.1) Error ${error}" >&2`).join("; ")}; exit 1`;
  const node = await nodeOf(context, { programs: await fakeCriu(context, failing) });
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

test.concurrent("a container with a terminal is refused with the reason", async (context) => {
  const node = await nodeOf(context, { programs: await fakeCriu(context, "exit 0") });
  const { containerId, location } = await counting(node, { tty: true });
  await expect(node.client.checkpointContainer({ containerId, location })).rejects.toMatchObject({
    code: status.UNIMPLEMENTED,
    details: expect.stringContaining("terminal"),
  });
});

test.concurrent("without a working CRIU the error says why", async (context) => {
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
