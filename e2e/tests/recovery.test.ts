// The daemon is killed at chosen points: started operations are finished, removed objects are not listed, and nothing
// keeps the daemon from serving.

import { execFile } from "node:child_process";
import { cp, mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { monitorPids } from "../fixtures/processes.ts";
import {
  addressOf,
  exited,
  monitorGone,
  nodeOf,
  notReady,
  podsGone,
  ready,
  running,
  startMilliseconds,
  states,
} from "../fixtures/recovery.ts";
import { until } from "../fixtures/steps.ts";

const execute = promisify(execFile);
test.concurrent("a pod without its interface is not ready after a start, whatever its record says", async (context) => {
  const node = await nodeOf(context);
  const { client, daemon, directory } = node;
  // Without the interface, the bridge plugin does not find its rules.
  await node.changePlugins((plugins) => {
    if (plugins[0] !== undefined) plugins[0].ipMasq = false;
  });
  const [lost, kept] = await Promise.all(
    ["lost", "kept"].map(async (name) => await client.runPodSandbox({ config: node.podConfig(name) })),
  );
  await daemon.kill();
  const netns = join(directory, "run", "pods", lost?.podSandboxId ?? "", "ns", "net");
  await execute("nsenter", [`--net=${netns}`, "ip", "link", "delete", "eth0"]);
  await daemon.start();

  expect(await states(node)).toEqual({ lost: notReady, kept: ready });
  expect(await addressOf(node, lost?.podSandboxId ?? "")).toBe("");
  expect(await addressOf(node, kept?.podSandboxId ?? "")).toMatch(/^10\./);
  await monitorGone(node, lost?.podSandboxId ?? "");
  await node.removePods();
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test.concurrent("after a downgrade, a newer keelson's pod runs on, is not started twice, and is back after an upgrade", async (context) => {
  const node = await nodeOf(context);
  const { client, daemon, directory } = node;
  const config = node.podConfig("p");
  const { podSandboxId } = await client.runPodSandbox({ config });
  const containerId = await node.runContainer(config, podSandboxId, "c", "sleep 600");
  await daemon.stop();
  const monitors = await monitorPids(directory);
  const record = join(directory, "root", "state", `${podSandboxId}.json`);
  const rewrite = async (from: string, to: string) =>
    await writeFile(record, (await readFile(record, "utf8")).replaceAll(`"version":${from}`, `"version":${to}`));
  await rewrite("2", "9");
  await daemon.start();

  expect(await states(node)).toEqual({});
  await expect(client.runPodSandbox({ config })).rejects.toMatchObject({ code: status.FAILED_PRECONDITION });
  await expect(client.removePodSandbox({ podSandboxId })).rejects.toMatchObject({ code: status.FAILED_PRECONDITION });
  const why = "a newer keelson wrote it, in version 9 of the format";
  expect(daemon.keelson("status")).toMatch(new RegExp(`${podSandboxId.slice(0, 13)} +test/p +left untouched.*${why}`));
  expect(daemon.keelson("check")).toMatch(new RegExp(`^warn +records +1 .*${podSandboxId}.json: ${why}`, "m"));
  expect(await monitorPids(directory)).toEqual(monitors);

  await daemon.stop();
  await rewrite("9", "2");
  await daemon.start();
  expect(await states(node)).toEqual({ p: ready });
  expect((await client.containerStatus({ containerId })).status?.state).toBe(running);
  await node.removePods();
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test.concurrent("a RemoveContainer interrupted after the monitor's delete leaves no container that is running without a process", async (context) => {
  const node = await nodeOf(context);
  const { client, daemon, directory } = node;
  const config = node.podConfig("p");
  const { podSandboxId } = await client.runPodSandbox({ config });
  const containerId = await node.runContainer(config, podSandboxId, "c", "sleep 600");
  const record = join(directory, "root", "state", `${containerId}.json`);
  // The start is recorded after its answer.
  const whileRunning = await until("it is on record as running", 10_000, async () => {
    const text = await readFile(record, "utf8");
    return text.includes('state\\":\\"running') ? text : undefined;
  });
  // A mount point makes the removal fail right after the monitor's delete.
  const held = join(directory, "run", "pods", podSandboxId, "containers", containerId, "held");
  await mkdir(held);
  await execute("mount", ["-t", "tmpfs", "tmpfs", held]);
  await expect(client.removeContainer({ containerId })).rejects.toThrow();
  await daemon.kill();
  await execute("umount", [held]);
  // The record that a kill before the write of the removal would have left.
  await writeFile(record, whileRunning);
  await daemon.start();

  const { containers } = await client.listContainers({});
  expect(containers.map(({ id, state }) => [id, state])).toEqual([[containerId, exited]]);
  const { status } = await client.containerStatus({ containerId });
  expect(status).toMatchObject({ exitCode: 255, reason: "Unknown" });
  await client.stopContainer({ containerId });
  await client.removeContainer({ containerId });
  expect((await client.listContainers({})).containers).toEqual([]);
});

test.concurrent("a RemoveContainer that was in progress is finished by the next daemon", async (context) => {
  const node = await nodeOf(context);
  const { client, daemon, directory } = node;
  const config = node.podConfig("p");
  const { podSandboxId } = await client.runPodSandbox({ config });
  const containerId = await node.runContainer(config, podSandboxId, "c", "sleep 600");
  const other = await node.runContainer(config, podSandboxId, "other", "sleep 600");
  const held = join(directory, "run", "pods", podSandboxId, "containers", containerId, "held");
  await mkdir(held);
  await execute("mount", ["-t", "tmpfs", "tmpfs", held]);
  await expect(client.removeContainer({ containerId })).rejects.toThrow();
  await daemon.kill();
  await execute("umount", [held]);
  await daemon.start();

  await until("the container is removed", 10_000, async () => {
    const { containers } = await client.listContainers({});
    return containers.length === 1 ? true : undefined;
  });
  const { containers } = await client.listContainers({});
  expect(containers.map(({ id, state }) => [id, state])).toEqual([[other, running]]);
  expect(await readdir(join(directory, "root", "image", "containers"))).toEqual([other]);
});

test.concurrent("out of descriptors, the daemon refuses calls and keeps running", async (context) => {
  const node = await nodeOf(context);
  const { client, daemon, directory } = node;
  await client.runPodSandbox({ config: node.podConfig("before") });
  const open = (await readdir(`/proc/${daemon.pid}/fd`)).length;
  const limits = (await execute("prlimit", ["--pid", String(daemon.pid), "--nofile", "--noheadings", "--output=SOFT"]))
    .stdout;
  const { pid } = daemon;
  for (const spare of [1, 2, 3, 4, 6, 8, 12, 16]) {
    await execute("prlimit", ["--pid", String(pid), `--nofile=${open + spare}:`]);
    await client.runPodSandbox({ config: node.podConfig(`tight-${spare}`) }).catch(() => "refused");
  }
  await execute("prlimit", ["--pid", String(pid), `--nofile=${limits.trim()}:`]);
  expect(daemon.pid).toBe(pid);
  expect((await states(node)).before).toBe(ready);
  await client.runPodSandbox({ config: node.podConfig("after") });
  expect((await states(node)).after).toBe(ready);
  await node.removePods();
  await podsGone(node);
  await daemon.stop();
  expect(await monitorPids(directory)).toEqual([]);
  expect(await node.leftovers()).toEqual([]);
});

test.concurrent("on a full disk the daemon starts, and images, containers and pods can be removed to free space", async (context) => {
  const node = await nodeOf(context);
  const { client, daemon, directory, image } = node;
  const root = join(directory, "root");
  await daemon.stop();
  await rename(root, `${root}.old`);
  await mkdir(root);
  await execute("mount", ["-t", "tmpfs", "-o", "size=24m,nr_inodes=2000", "tmpfs", root]);
  context.onTestFinished(async () => {
    await node.removePods().catch(() => undefined);
    await daemon.stop();
    await execute("umount", ["-l", root]);
  });
  await cp(`${root}.old`, root, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  await execute("chown", ["-R", "0:0", root]);
  const usual = await startMilliseconds(node);
  const config = node.podConfig("p");
  const { podSandboxId } = await client.runPodSandbox({ config });
  const containerId = await node.runContainer(config, podSandboxId, "c", "sleep 600");
  const other = await node.runContainer(config, podSandboxId, "other", "sleep 600");
  // Use up every block, then every inode.
  await execute("sh", ["-c", `dd if=/dev/zero of=${root}/full bs=4k 2>/dev/null; true`]);
  await execute("sh", [
    "-c",
    `cd ${root}; mkdir many; cd many; i=0; while true >$i; do i=$((i+1)); done 2>/dev/null; true`,
  ]);
  await expect(writeFile(join(root, "one-more"), "x")).rejects.toThrow("ENOSPC");
  await daemon.kill();

  expect(await startMilliseconds(node)).toBeLessThan(usual + 5_000);
  expect(await states(node)).toEqual({ p: ready });
  await expect(client.runPodSandbox({ config: node.podConfig("q") })).rejects.toThrow();
  await client.removeContainer({ containerId });
  await client.stopContainer({ containerId: other });
  await client.stopPodSandbox({ podSandboxId });
  await client.removePodSandbox({ podSandboxId });
  await client.removeImage({ image: { image } });
  expect((await client.listImages({})).images).toEqual([]);
  expect(await states(node)).toEqual({});
  await writeFile(join(root, "one-more"), "x");
  await daemon.kill();
  await daemon.start();
  expect((await client.listImages({})).images).toEqual([]);
  await daemon.stop();
  expect((await node.leftovers()).filter((line) => !line.includes(` on ${root}`))).toEqual([]);
  await daemon.start();
}, 60_000);
