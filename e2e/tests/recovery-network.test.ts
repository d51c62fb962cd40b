// The daemon is killed while plugins run, hang or fail: no address is assigned twice, and nothing keeps the daemon
// from serving.

import { execFile } from "node:child_process";
import { chmod, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { expect, type TestContext, test } from "vitest";
import type { Daemon } from "../fixtures/daemon.ts";
import type { TestNode } from "../fixtures/node.ts";
import { monitorPids } from "../fixtures/processes.ts";
import {
  addressOf,
  exited,
  monitorGone,
  nodeOf,
  notReady,
  podsGone,
  ready,
  startMilliseconds,
  states,
  usualStart,
} from "../fixtures/recovery.ts";
import { until } from "../fixtures/steps.ts";

const execute = promisify(execFile);

interface Extra {
  /** Shell script of a plugin, with the command in `$CNI_COMMAND`. For an ADD it must print the result. */
  readonly script: string;
  /** If it is first in the chain, its DEL runs last, and vice versa. */
  readonly place: "first" | "last";
}

/** A node whose chain has an additional plugin; `flag` is a file that the plugin may check for. */
async function startNodeWith(
  context: TestContext,
  plugin: (flag: string) => Extra,
): Promise<{ readonly node: TestNode; readonly flag: string }> {
  const node = await nodeOf(context, {
    pluginDirectories: (directory) => [join(directory, "plugins"), "/usr/lib/cni"],
  });
  const { directory } = node;
  const flag = join(directory, "flag");
  const { script, place } = plugin(flag);
  await mkdir(join(directory, "plugins"));
  await writeFile(join(directory, "plugins", "extra"), `#!/bin/sh\n${script}\n`);
  await chmod(join(directory, "plugins", "extra"), 0o755);
  await node.changePlugins((plugins) => {
    plugins.splice(place === "first" ? 0 : plugins.length, 0, { type: "extra" });
  });
  return { node, flag };
}

/** Passes on the result of the previous plugin in the chain. */
const passOn = `[ $CNI_COMMAND = ADD ] && { sed 's/.*"prevResult":\\({.*}\\)}$/\\1/'; exit 0; }`;

for (const verb of ["stopPodSandbox", "removePodSandbox"] as const)
  test.concurrent(`a ${verb} interrupted after the plugins' DEL: the pod is no longer ready, and its address is reassigned only once`, async (context) => {
    // First in the chain: when it kills the daemon that called it, all later plugins have finished their DEL.
    const { node, flag } = await startNodeWith(context, (file) => ({
      place: "first",
      script: `[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.0.0"}'\n[ $CNI_COMMAND = DEL ] && [ -e ${file} ] && kill -9 $PPID\nexit 0`,
    }));
    const { client, daemon } = node;
    const config = node.podConfig("ending");
    const { podSandboxId } = await client.runPodSandbox({ config });
    const containerId = await node.runContainer(config, podSandboxId, "c", "sleep 600");
    const address = await addressOf(node, podSandboxId);
    expect(address).toMatch(/^10\./);

    await writeFile(flag, "");
    await expect(client[verb]({ podSandboxId })).rejects.toThrow();
    await daemon.kill();
    await rm(flag);
    await daemon.start();

    expect(await states(node)).toEqual({ ending: notReady });
    expect(await addressOf(node, podSandboxId)).toBe("");
    const { status } = await client.containerStatus({ containerId });
    expect(status?.state).toBe(exited);
    const others = await Promise.all(
      ["b", "c"].map(async (name) => await client.runPodSandbox({ config: node.podConfig(name) })),
    );
    const addresses = await Promise.all(others.map((other) => addressOf(node, other.podSandboxId)));
    expect(new Set(addresses).size).toBe(2);
    await monitorGone(node, podSandboxId);
    await node.removePods();
    await daemon.stop();
    expect(await node.leftovers()).toEqual([]);
  });

test.concurrent("half-created pods and a hanging DEL do not delay the socket; a retry with the same name succeeds", async (context) => {
  const { node, flag } = await startNodeWith(context, (file) => ({
    place: "last",
    script: `[ -e ${file} ] && exec sleep 600\n${passOn}\nexit 0`,
  }));
  const { client, daemon } = node;
  const usual = await usualStart(node);
  const names = ["a", "b", "c"];
  await writeFile(flag, "");
  const starts = names.map((name) => client.runPodSandbox({ config: node.podConfig(name) }).catch(() => "failed"));
  await until("the plugins hang", 10_000, async () => ((await hanging(node)) === 3 ? true : undefined));
  await daemon.kill();
  expect(await Promise.all(starts)).toEqual(["failed", "failed", "failed"]);

  expect(await startMilliseconds(node)).toBeLessThan(usual + 5_000);
  expect(await states(node)).toEqual({});
  await rm(flag);
  for (const name of names) await client.runPodSandbox({ config: node.podConfig(name) });
  expect(await states(node)).toEqual({ a: ready, b: ready, c: ready });
  await node.removePods();
  // DELs that have been hanging since before the flag was removed are killed with the daemon.
  await daemon.stop();
  expect(await hanging(node)).toBe(0);
  await daemon.start();
  await podsGone(node);
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
}, 60_000);

test.concurrent("with pods that lost their monitors, as after a reboot, and a hanging DEL, the daemon serves at once, and none is ready", async (context) => {
  const { node, flag } = await startNodeWith(context, (file) => ({
    place: "last",
    script: `[ -e ${file} ] && exec sleep 600\n${passOn}\nexit 0`,
  }));
  const { client, daemon, directory } = node;
  const usual = await usualStart(node);
  const names = ["a", "b", "c", "d", "e", "f"];
  for (const name of names) await client.runPodSandbox({ config: node.podConfig(name) });
  await daemon.kill();
  for (const pid of await monitorPids(directory)) process.kill(pid, "SIGKILL");
  await writeFile(flag, "");

  expect(await startMilliseconds(node)).toBeLessThan(usual + 5_000);
  expect(await states(node)).toEqual(Object.fromEntries(names.map((name) => [name, notReady])));
  await until("the first DELs hang", 10_000, async () => ((await hanging(node)) > 0 ? true : undefined));
  await delay(500);
  expect(await hanging(node)).toBeLessThanOrEqual(4);
  await rm(flag);
  await daemon.stop();
  await daemon.start();
  await node.removePods();
  await podsGone(node);
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
}, 60_000);

test("SIGTERM stops the daemon within two seconds while plugins hang, kills them, and the next daemon continues", async (context) => {
  const { node, flag } = await startNodeWith(context, (file) => ({
    place: "last",
    script: `[ -e ${file} ] && exec sleep 600\n${passOn}\nexit 0`,
  }));
  const { client, daemon, directory } = node;
  const { podSandboxId } = await client.runPodSandbox({ config: node.podConfig("stopping") });
  await writeFile(flag, "");
  const stopping = client.stopPodSandbox({ podSandboxId }).catch(() => "failed");
  const starting = client.runPodSandbox({ config: node.podConfig("starting") }).catch(() => "failed");
  await until("both hang", 10_000, async () => ((await hanging(node)) === 2 ? true : undefined));
  const { pid } = daemon;
  const lock = join(directory, "root", "keelson.lock");
  const begin = performance.now();
  const ended = daemon.stop();
  // flock(1) gets the lock as soon as it is released: by then no process of the daemon may be running.
  await execute("flock", [lock, "sh", "-c", `test ! -e /proc/${pid}/exe`]);
  await ended;
  expect(performance.now() - begin).toBeLessThan(2_000);
  expect(await Promise.all([stopping, starting])).toEqual(["failed", "failed"]);
  expect(await hanging(node)).toBe(0);
  const said = (await readFile(daemon.logFile, "utf8"))
    .split("\n")
    .filter((line) => line.includes("has unfinished work"));
  expect(said.some((line) => line.includes(podSandboxId) && line.includes('"life":"stopping"'))).toBe(true);
  expect(said.some((line) => line.includes('"life":"starting"'))).toBe(true);

  await rm(flag);
  await daemon.start();
  expect(await states(node)).toEqual({ stopping: notReady });
  await until("the half-created pod is removed", 10_000, async () =>
    (await readdir(join(directory, "run", "pods"))).length === 1 ? true : undefined,
  );
  await node.removePods();
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
}, 60_000);

test.concurrent("a pod whose failed start could not be undone is listed as not ready, by the next daemon too, until it is removed", async (context) => {
  const { node, flag } = await startNodeWith(context, (file) => ({
    place: "last",
    script: `[ -e ${file} ] && { echo '{"code": 100, "msg": "not today"}'; exit 1; }\n${passOn}\nexit 0`,
  }));
  const { client, daemon } = node;
  await writeFile(flag, "");
  const config = node.podConfig("failed");
  await expect(client.runPodSandbox({ config })).rejects.toThrow("not today");
  expect(await states(node)).toEqual({ failed: notReady });
  await daemon.kill();
  await daemon.start();
  await until("it is listed again", 10_000, async () => ((await states(node)).failed === notReady ? true : undefined));
  const [left] = (await client.listPodSandbox({})).items;
  const { info } = await client.podSandboxStatus({ podSandboxId: left?.id ?? "", verbose: true });
  expect(JSON.parse(info?.info ?? "{}").leftovers.join()).toContain("not today");

  await rm(flag);
  // Its name is free nevertheless.
  const { podSandboxId } = await client.runPodSandbox({ config });
  await client.removePodSandbox({ podSandboxId: left?.id ?? "" });
  const { items } = await client.listPodSandbox({});
  expect(items.map(({ id, state }) => [id, state])).toEqual([[podSandboxId, ready]]);
  await node.removePods();
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test.concurrent("if a DEL fails, the pod is still stopped and removed, its namespace is kept, and the retry leaves no rule", async (context) => {
  const node = await nodeOf(context, {
    pluginDirectories: (directory) => [join(directory, "plugins"), "/usr/lib/cni"],
  });
  const { client, daemon, directory } = node;
  const shut = join(directory, "shut");
  await mkdir(join(directory, "plugins"));
  await writeFile(
    join(directory, "plugins", "gate"),
    `#!/bin/sh\n[ $CNI_COMMAND = DEL ] && [ -e ${shut} ] && { echo '{"code": 100, "msg": "gate shut"}'; exit 1; }\nexec /usr/lib/cni/bridge\n`,
    { mode: 0o755 },
  );
  await node.changePlugins((plugins) => {
    if (plugins[0] !== undefined) plugins[0].type = "gate";
  });
  const { podSandboxId } = await client.runPodSandbox({ config: node.podConfig("p") });
  await writeFile(shut, "");

  await client.stopPodSandbox({ podSandboxId });
  await client.removePodSandbox({ podSandboxId });
  expect(await states(node)).toEqual({});
  expect(await readdir(join(directory, "run", "netns"))).toEqual([podSandboxId]);
  expect(checked(daemon)).toMatch(new RegExp(`warn +network leftovers +pod test/p \\(${podSandboxId}\\): DEL of gate`));
  await daemon.kill();
  await daemon.start();
  expect(await readdir(join(directory, "run", "netns"))).toEqual([podSandboxId]);
  await rm(shut);

  await until("the namespace is released", 20_000, async () =>
    (await readdir(join(directory, "run", "netns"))).length === 0 ? true : undefined,
  );
  expect(checked(daemon)).toMatch(/ok +network leftovers +none/);
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
}, 60_000);

test.concurrent("after a start, each pod that lost its monitor gets one DEL, then retries on schedule", async (context) => {
  const { node, flag } = await startNodeWith(context, (file) => ({
    place: "last",
    script: `[ $CNI_COMMAND = DEL ] && [ -e ${file} ] && { date +%s%N >>${file}; echo '{"code": 100, "msg": "no"}'; exit 1; }\n${passOn}\nexit 0`,
  }));
  const { client, daemon, directory } = node;
  await client.runPodSandbox({ config: node.podConfig("p") });
  await daemon.kill();
  for (const pid of await monitorPids(directory)) process.kill(pid, "SIGKILL");
  await writeFile(flag, "");
  await daemon.start();

  const times = await until("two DELs are done", 15_000, async () => {
    const lines = (await readFile(flag, "utf8")).trim().split("\n");
    return lines.length >= 2 ? lines.map((line) => Number(line) / 1e6) : undefined;
  });
  expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(900);
  await rm(flag);
  await node.removePods();
  await podsGone(node);
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

/** The output of `keelson check`, even if it fails. */
function checked(daemon: Daemon): string {
  try {
    return daemon.keelson("check");
  } catch (error) {
    return error instanceof Error && "stdout" in error ? String(error.stdout) : String(error);
  }
}

/** The number of this node's plugins that are sleeping. */
async function hanging(node: TestNode): Promise<number> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const [environment, line] = await Promise.all(
        ["environ", "cmdline"].map(async (name) => await readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "")),
      );
      return environment?.includes(`CNI_PATH=${node.directory}`) === true && line?.startsWith("sleep\0") === true;
    }),
  );
  return found.filter((is) => is).length;
}
