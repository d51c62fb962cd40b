// Killed while plugins are at work, hang or fail: no address is given to two, and nothing keeps the daemon from serving.

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
  /** Shell lines of a plugin; `$CNI_COMMAND` tells what it is called for. Of an ADD it must print the result. */
  readonly script: string;
  /** First in the chain, its DEL runs last; last in the chain, first. */
  readonly place: "first" | "last";
}

/** A node whose chain has one more plugin; `flag` names a file that the plugin may look for. */
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

/** Hands on what came before it in the chain. */
const passOn = `[ $CNI_COMMAND = ADD ] && { sed 's/.*"prevResult":\\({.*}\\)}$/\\1/'; exit 0; }`;

for (const verb of ["stopPodSandbox", "removePodSandbox"] as const)
  test.concurrent(`a ${verb} cut short behind the plugins' DEL: the pod is not ready any more, and its address goes to one other`, async (context) => {
    // The first of the chain: everything behind it is detached when it kills the daemon that called it.
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

test.concurrent("half-made pods and a DEL that hangs keep nobody waiting for the socket; a retry under the same name is served", async (context) => {
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
  // What hangs in DEL since before the flag went is killed with the daemon.
  await daemon.stop();
  expect(await hanging(node)).toBe(0);
  await daemon.start();
  await podsGone(node);
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
}, 60_000);

test.concurrent("pods whose monitors are gone, as after a reboot, and a DEL that hangs: served at once, none of them ready", async (context) => {
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

test("SIGTERM ends the daemon within two seconds while plugins hang, kills them, and the next one goes on", async (context) => {
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
  // flock(1) gets it at the first moment nobody has it: nothing of the daemon may be at work any more.
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
  await until("the half-made pod is gone", 10_000, async () =>
    (await readdir(join(directory, "run", "pods"))).length === 1 ? true : undefined,
  );
  await node.removePods();
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
}, 60_000);

test.concurrent("what a start that failed could not take back is listed, not ready, also by the next daemon, until it is removed", async (context) => {
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
  // The name is free all the same.
  const { podSandboxId } = await client.runPodSandbox({ config });
  await client.removePodSandbox({ podSandboxId: left?.id ?? "" });
  const { items } = await client.listPodSandbox({});
  expect(items.map(({ id, state }) => [id, state])).toEqual([[podSandboxId, ready]]);
  await node.removePods();
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
});

test.concurrent("a DEL that fails: the pod is stopped and removed all the same, its namespace is kept, and the retry leaves no rule", async (context) => {
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

  await until("the namespace is let go", 20_000, async () =>
    (await readdir(join(directory, "run", "netns"))).length === 0 ? true : undefined,
  );
  expect(checked(daemon)).toMatch(/ok +network leftovers +none/);
  await daemon.stop();
  expect(await node.leftovers()).toEqual([]);
}, 60_000);

test.concurrent("after a start each pod that lost its monitor gets one DEL, then the retries at their time", async (context) => {
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

/** What `keelson check` prints, whatever it thinks of this host. */
function checked(daemon: Daemon): string {
  try {
    return daemon.keelson("check");
  } catch (error) {
    return error instanceof Error && "stdout" in error ? String(error.stdout) : String(error);
  }
}

/** Plugins of this node that sleep. */
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
