// kill -9 of the daemon: pods keep running and logging, exit codes are kept, and half-created pods are cleaned up.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, mkdir, readdir, readFile, rm, rmdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { counts, startNode, type TestNode } from "../fixtures/node.ts";
import { forkServerPids } from "../fixtures/processes.ts";
import { mountSilent } from "../fixtures/silent-file-system.ts";
import { until } from "../fixtures/steps.ts";

let node: TestNode;
afterEach(() => node.close());

const counter = "n=0; while true; do echo count $n; n=$((n + 1)); sleep 0.05; done";

/** Everything that a client can query. */
async function everything({ client }: TestNode) {
  const { items } = await client.listPodSandbox({});
  const { containers } = await client.listContainers({});
  const statuses = await Promise.all([
    ...items.map(({ id }) => client.podSandboxStatus({ podSandboxId: id ?? "" })),
    ...containers.map(({ id }) => client.containerStatus({ containerId: id ?? "" })),
  ]);
  const { images } = await client.listImages({});
  // Only the time of the answer may differ.
  const text = JSON.stringify({ items, containers, statuses, images }, (key, value) =>
    key === "timestamp" ? 0 : value,
  );
  return JSON.parse(text);
}

test("a pod keeps running and logging, and the next daemon reports it as the first one did", async () => {
  node = await startNode();
  const { client, daemon, logs } = node;
  const pod = node.podConfig("counting");
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  const containerId = await node.runContainer(pod, podSandboxId, "counter", counter);
  const log = join(logs, "counter.log");
  await counts(log, 5);
  const before = await everything(node);
  expect(before.containers).toHaveLength(1);

  await daemon.kill();
  const atDeath = (await counts(log, 0)).length;
  await counts(log, atDeath + 10);
  await daemon.start();

  expect(await everything(node)).toEqual(before);
  const { stdout, exitCode } = await client.execSync({ containerId, cmd: ["hostname"] });
  expect([Buffer.from(stdout).toString(), exitCode]).toEqual(["counting\n", 0]);
  const numbers = await counts(log, atDeath + 20);
  expect(numbers).toEqual(numbers.map((_, index) => index));

  await client.stopPodSandbox({ podSandboxId });
  await client.removePodSandbox({ podSandboxId });
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test("if the fork server is killed, pods keep running and the next pod starts; it exits with the daemon", async () => {
  node = await startNode();
  const { client, daemon, directory } = node;
  const pods = ["before", "after"].map((name) => node.podConfig(name));
  for (const pod of pods) {
    const { podSandboxId } = await client.runPodSandbox({ config: pod });
    await node.runContainer(pod, podSandboxId, "main", "sleep 1000");
    const [server = 0] = await forkServerPids(directory);
    process.kill(server, "SIGKILL");
    await expect.poll(() => forkServerPids(directory)).toEqual([]);
  }
  const { containers } = await client.listContainers({ filter: { state: { state: 1 } } });
  expect(containers).toHaveLength(2);
  await client.runPodSandbox({ config: node.podConfig("last") });
  expect(await forkServerPids(directory)).toHaveLength(1);
  await daemon.kill();
  await expect.poll(() => forkServerPids(directory)).toEqual([]);
  await daemon.start();
  const { items } = await client.listPodSandbox({});
  expect(items).toHaveLength(3);
  for (const { id = "" } of items) await client.removePodSandbox({ podSandboxId: id });
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test("pods of the previous version, with its records and without a files directory, keep running and accept containers", async () => {
  node = await startNode();
  const { client, daemon, directory } = node;
  const pod = node.podConfig("older");
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  const containerId = await node.runContainer(pod, podSandboxId, "first", "sleep 1000");
  await daemon.kill();
  for (const id of [podSandboxId, containerId]) await rewriteAsVersion1(join(directory, "root/state", `${id}.json`));
  const files = join(directory, "run/pods", podSandboxId, "files");
  execFileSync("umount", [files]);
  await rmdir(files);

  await daemon.start();
  const { items } = await client.listPodSandbox({});
  expect(items).toMatchObject([{ id: podSandboxId, state: 0 }]);
  const second = await node.runContainer(pod, podSandboxId, "second", "sleep 1000");
  for (const id of [containerId, second]) {
    const { stdout } = await client.execSync({ containerId: id, cmd: ["cat", "/etc/hostname"] });
    expect(Buffer.from(stdout).toString()).toBe("older\n");
  }
  await client.removePodSandbox({ podSandboxId });
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test("a container created in a pod of an older monitor has a HOME, although it mounts a passwd file", async () => {
  node = await startNode();
  const { client, directory, image } = node;
  const pod = node.podConfig("older");
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  await rm(join(directory, "run/pods", podSandboxId, "finds-home"));
  const hostPath = join(directory, "passwd");
  await writeFile(hostPath, "root:x:0:0:root:/home/elsewhere:/bin/sh\n");
  const config = {
    metadata: { name: "c", attempt: 0 },
    image: { image },
    command: ["sleep", "1000"],
    mounts: [{ containerPath: "/etc/passwd", hostPath, readonly: true }],
  };
  const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
  await client.startContainer({ containerId });
  const { stdout } = await client.execSync({ containerId, cmd: ["sh", "-c", "echo $HOME"] });
  // From its image: such a monitor does not set HOME.
  expect(Buffer.from(stdout).toString()).toBe("/root\n");
});

/** The format of records that keelson 0.1.0 wrote up to commit 1bafc12. */
async function rewriteAsVersion1(path: string): Promise<void> {
  const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
  const { version, body } = JSON.parse(lines.at(-1) ?? "");
  expect(version).toBe(2);
  const { life, removing, ...rest } = JSON.parse(body);
  expect([life ?? "ready", removing ?? false]).toEqual(["ready", false]);
  const older = JSON.stringify(rest.kind === "sandbox" ? { ...rest, ready: true } : rest);
  const sha256 = createHash("sha256").update(older).digest("hex");
  await writeFile(path, JSON.stringify({ version: 1, sha256, body: older }));
}

test("an exit while no daemon was running is reported, with its code and time", async () => {
  node = await startNode();
  const { client, daemon } = node;
  const pod = node.podConfig("leaving");
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  const codes = [5, 0, 255];
  const ids = await Promise.all(
    codes.map((code) => node.runContainer(pod, podSandboxId, `exit-${code}`, `sleep 1; exit ${code}`)),
  );
  const killed = await node.runContainer(pod, podSandboxId, "killed", "sleep 1; kill -KILL $$");

  await daemon.kill();
  const gone = Date.now();
  await delay(1500);
  await daemon.start();
  const back = Date.now();

  for (const [index, containerId] of [...ids, killed].entries()) {
    const { status } = await client.containerStatus({ containerId });
    const exitCode = [...codes, 137][index];
    expect(status).toMatchObject({ state: 2, exitCode });
    expect(status?.reason).toBe(exitCode === 0 ? "Completed" : "Error");
    const finished = Number(status?.finishedAt) / 1e6;
    expect(finished).toBeGreaterThan(gone - 100);
    expect(finished).toBeLessThan(back);
  }
});

test("a pod that was half-created when the daemon was killed is removed by the next, with its address and rules", async () => {
  node = await startNode({ pluginDirectories: (directory) => [join(directory, "plugins"), "/usr/lib/cni"] });
  const { client, daemon, directory, logs } = node;
  const started = join(logs, "slow-started");
  await mkdir(join(directory, "plugins"));
  await writeFile(
    join(directory, "plugins", "slow"),
    `#!/bin/sh\n[ $CNI_COMMAND = ADD ] && { touch ${started}; exec sleep 600; }\nexit 0\n`,
  );
  await chmod(join(directory, "plugins", "slow"), 0o755);
  await node.changePlugins((plugins) => {
    plugins.push({ type: "slow" });
  });

  const running = client.runPodSandbox({ config: node.podConfig("half") }).catch(() => "failed");
  await until("the slow plugin runs", 10_000, async () => readFile(started).catch(() => undefined));
  expect(await node.leftovers()).not.toEqual([]);
  await daemon.kill();
  expect(await running).toBe("failed");
  await daemon.start();

  expect((await client.listPodSandbox({})).items).toEqual([]);
  await until("the half-created pod is removed", 10_000, async () => {
    const names = await readdir(join(directory, "run", "pods"));
    return names.length === 0 ? true : undefined;
  });
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test("if a plugin fails, the pod fails with the plugin's message and nothing is left behind", async () => {
  node = await startNode({ pluginDirectories: (directory) => [join(directory, "plugins")] });
  const { client, daemon, directory } = node;
  await mkdir(join(directory, "plugins"));
  for (const type of ["bridge", "host-local", "portmap"])
    await symlink(join("/usr/lib/cni", type), join(directory, "plugins", type));
  await writeFile(
    join(directory, "plugins", "refusing"),
    `#!/bin/sh\n[ $CNI_COMMAND = ADD ] && { echo '{"code": 107, "msg": "not today"}'; exit 1; }\nexit 0\n`,
    { mode: 0o755 },
  );
  await node.changePlugins((plugins) => {
    plugins.push({ type: "refusing" });
  });

  await expect(client.runPodSandbox({ config: node.podConfig("refused") })).rejects.toThrow(
    "CNI plugin refusing failed ADD with code 107: not today",
  );

  expect((await client.listPodSandbox({})).items).toEqual([]);
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test("the next daemon starts although the first one's access to a volume still hangs", async () => {
  node = await startNode();
  const { client, daemon, directory, image } = node;
  const volume = join(directory, "volume");
  await mkdir(volume);
  const pod = node.podConfig("hung");
  const { podSandboxId } = await client.runPodSandbox({ config: pod });
  await using _silent = await mountSilent(volume);
  const mounts = [{ hostPath: join(volume, "a"), containerPath: "/volume" }];
  const config = { metadata: { name: "c", attempt: 0 }, image: { image }, command: ["true"], mounts, linux: {} };
  const create = client.createContainer({ podSandboxId, sandboxConfig: pod, config }, 1_000);
  await expect(create).rejects.toThrow("Deadline exceeded");
  await daemon.kill();
  await daemon.start();
  expect((await client.podSandboxStatus({ podSandboxId })).status?.state).toBe(0);
});
