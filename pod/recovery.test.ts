// A daemon's start on what another one left: records of every life against what monitor, network and host say, and
// daemons killed at every step of every request.

import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { limits } from "./environment.ts";
import type { NodePods } from "./pods.ts";
import { Records } from "./records.ts";
import type { SandboxLife } from "./sandbox.ts";
import { holdTime, pass, quiet, until, within } from "./testing/clock.ts";
import { makeContainer, never, recordEvents, runContainer, runPod, useNode } from "./testing/node.ts";

const everything = { labels: new Map() };
const node = useNode();
holdTime();

/** How long a daemon may take until it serves, whatever it finds. */
const servedMs = 1_100;

async function rewriteLife(sandboxId: string, life: SandboxLife): Promise<void> {
  const record = await node().record(sandboxId);
  if (record?.kind !== "sandbox") throw new Error(`no record of ${sandboxId}`);
  await (await Records.open(node().stateDirectory)).save({ ...record, life });
}

/** What is told of the pods is so. */
function expectTrue(pods: NodePods): void {
  const sandboxes = pods.sandboxes(everything);
  for (const { id, state, ips, leftovers } of sandboxes) {
    expect(leftovers).toEqual([]);
    if (state === "ready") expect([node().network.attached.get(id)]).toEqual(ips);
    else expect(ips).toEqual([]);
  }
  const addresses = sandboxes.flatMap(({ ips }) => ips);
  expect(new Set(addresses).size).toBe(addresses.length);
  for (const { id, sandboxId, phase } of pods.containers(everything)) {
    expect([id, phase.state === "running"]).toEqual([id, node().monitor(sandboxId).running.includes(id)]);
  }
}

/** And nothing is on the node that belongs to none of them. */
async function expectTidy(pods: NodePods): Promise<void> {
  expectTrue(pods);
  const sandboxes = pods.sandboxes(everything).map(({ id }) => String(id));
  const ready = pods.sandboxes({ ...everything, state: "ready" }).map(({ id }) => String(id));
  const containers = pods.containers(everything).map(({ id }) => String(id));
  expect((await node().podDirectories()).filter((id) => !sandboxes.includes(id))).toEqual([]);
  expect([...node().images.layers].filter((id) => !containers.includes(id))).toEqual([]);
  expect((await node().records()).map(({ id }) => String(id)).toSorted()).toEqual(
    [...sandboxes, ...containers].toSorted(),
  );
  expect(
    node()
      .network.leases()
      .map(({ sandboxId }) => sandboxId)
      .toSorted(),
  ).toEqual(ready.toSorted());
  expect(node().monitors.filter(({ isGone }) => !isGone)).toHaveLength(ready.length);
}

async function expectRemovable(pods: NodePods): Promise<void> {
  for (const { id } of pods.sandboxes(everything)) await pods.removeSandbox(id, never);
  expect(pods.sandboxes(everything)).toEqual([]);
  await expectTidy(pods);
}

describe("what is on record, against what is there", () => {
  const lives: readonly SandboxLife[] = ["starting", "ready", "stopping", "stopped"];
  const monitors = ["up", "frozen", "gone"] as const;
  const networks = ["there", "lost", "unknown", "slow"] as const;
  const cases = lives.flatMap((life) =>
    monitors.flatMap((monitor) => networks.map((network) => ({ life, monitor, network }))),
  );

  test.each(cases)("a $life pod, its monitor $monitor, its network $network", async ({ life, monitor, network }) => {
    const before = await node().start();
    const id = await runPod(before);
    // A pod whose start was never over has none.
    const containers = life === "starting" ? [] : [await runContainer(before, id)];
    await node().kill();
    await rewriteLife(id, life);
    if (monitor === "gone") node().monitor(id).dies();
    if (monitor === "frozen") node().monitor(id).freezes();
    if (network === "lost") node().network.loses(id);
    if (network === "unknown") node().script.fail("network inspect", new Error("EMFILE"));
    const inspecting = network === "slow" && life === "ready" ? node().script.hold("network inspect") : undefined;

    const pods = await within(servedMs, node().start());
    const isReady = life === "ready" && monitor !== "gone" && network !== "lost";
    const listed = pods.sandboxes(everything);
    expect(listed.map(({ state }) => state)).toEqual(life === "starting" ? [] : [isReady ? "ready" : "not-ready"]);
    expect(listed.flatMap(({ ips }) => ips)).toEqual(isReady ? ["10.88.0.1"] : []);
    for (const c of containers) {
      // A pod that was stopped whole is not looked at: nothing of it can run.
      if (monitor === "gone" && life !== "stopped")
        expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 255, reason: "Unknown" });
      else expect(pods.container(c).phase.state, "its last known state stands").toBe("running");
    }

    node().monitor(id).thaws();
    inspecting?.release();
    await within(limits.shutdown * 3, pods.tidy());
    // A monitor that lives beside a record of a whole stop is no state that a daemon leaves.
    if (life !== "stopped") await expectTidy(pods);
    expect(pods.sandboxes(everything).map(({ state }) => state)).toEqual(
      life === "starting" ? [] : [isReady ? "ready" : "not-ready"],
    );
  });

  test("a network that turns out to be lost after the daemon serves ends the pod then", async () => {
    const id = await runPod(await node().start());
    await node().kill();
    const inspecting = node().script.hold("network inspect");
    const pods = await within(servedMs, node().start());
    expect(pods.sandbox(id).state).toBe("ready");
    node().network.loses(id);
    const told = recordEvents(pods);
    inspecting.release();
    await pods.tidy();
    expect(pods.sandbox(id)).toMatchObject({ state: "not-ready", ips: [] });
    await until("it is told", () => told.includes("stopped p"));
    await expectTidy(pods);
  });
});

describe("a daemon killed at a step", () => {
  type Verb = (pods: NodePods, sandboxId: string, containerId: string) => Promise<unknown>;
  const stopSandbox: Verb = (pods, sandboxId) => pods.stopSandbox(sandboxId, never);
  const removeSandbox: Verb = (pods, sandboxId) => pods.removeSandbox(sandboxId, never);
  const verbs: readonly { readonly verb: string; readonly run: Verb; readonly steps: readonly string[] }[] = [
    { verb: "RunPodSandbox", run: (pods) => runPod(pods, "new"), steps: ["monitor spawn", "network attach"] },
    { verb: "StopPodSandbox", run: stopSandbox, steps: ["monitor stop", "network detach", "monitor shutdown"] },
    {
      verb: "RemovePodSandbox",
      run: removeSandbox,
      steps: ["monitor stop", "network detach", "monitor shutdown", "images removeSnapshot", "host removeTree"],
    },
    {
      verb: "CreateContainer",
      run: (pods, sandboxId) => makeContainer(pods, sandboxId, "new"),
      steps: ["images prepareSnapshot"],
    },
    {
      verb: "StartContainer",
      run: async (pods, sandboxId) => pods.startContainer(await makeContainer(pods, sandboxId, "new"), never),
      steps: ["monitor start"],
    },
    { verb: "StopContainer", run: (pods, _, c) => pods.stopContainer(c, 0n, never), steps: ["monitor stop"] },
    {
      verb: "RemoveContainer",
      run: (pods, _, c) => pods.removeContainer(c, never),
      steps: ["monitor stop", "monitor delete", "host removeTree", "images removeSnapshot"],
    },
  ];
  const cases = verbs.flatMap(({ verb, run, steps }) =>
    steps.flatMap((step) =>
      [false, true].map((isDone) => ({ verb, run, step, isDone, when: isDone ? "after" : "before" })),
    ),
  );

  test.each(cases)(
    "$when $step of $verb: what is told is so, the rest is finished, the retry succeeds",
    async ({ run, step, isDone }) => {
      const first = await node().start();
      const sandboxId = await runPod(first);
      const containerId = await runContainer(first, sandboxId);
      await runPod(first, "bystander");
      const held = node().script.hold(step);
      run(first, sandboxId, containerId).catch(() => undefined);
      await held.arrived;
      if (isDone) held.act();

      const pods = await node().restart();
      expectTrue(pods);
      await pods.tidy();
      await expectTidy(pods);
      await run(pods, sandboxId, containerId).catch((error: unknown) => {
        // The very thing to do may have been finished by the daemon, or the pod have ended.
        expect(error).toMatchObject({ code: expect.stringMatching(/^(NotFound|FailedPrecondition)$/) });
      });
      expectTrue(pods);
      expect(
        pods.sandboxes({ ...everything, state: "ready" }).some(({ config }) => config.metadata.name === "bystander"),
      ).toBe(true);
      await expectRemovable(pods);
    },
  );
});

describe("clearing up", () => {
  test("a DEL that hangs keeps nobody from the socket, runs for four pods at a time, and leaves their names free", async () => {
    const first = await node().start();
    const names = ["a", "b", "c", "d", "e", "f"];
    const ids = await Promise.all(names.map((name) => runPod(first, name)));
    await node().kill();
    for (const id of ids) await rewriteLife(id, "starting");
    const hanging = names.map(() => node().script.hold("network detach"));

    const pods = await within(servedMs, node().start());
    const tidying = pods.tidy();
    await until("the first DELs hang", () => node().script.count("network detach") >= 4);
    await quiet();
    expect(node().script.count("network detach")).toBe(4);
    expect(pods.sandboxes(everything)).toEqual([]);
    const again = await Promise.all(names.map((name) => runPod(pods, name)));
    for (const held of hanging) held.release();
    await tidying;
    expect(pods.sandboxes(everything).map(({ id }) => id)).toEqual(again);
    await expectTidy(pods);
  });

  test("pods without monitors, as after a reboot: their processes are killed though DELs hang", async () => {
    const first = await node().start();
    const ids = await Promise.all(["a", "b", "c", "d", "e", "f"].map((name) => runPod(first, name)));
    await node().kill();
    for (const id of ids) {
      node().monitor(id).dies();
      // Stands for the pod's cgroup, whose processes outlived their monitor.
      await mkdir(join(node().directory, "cgroup/keelson", id), { recursive: true });
    }
    const hanging = ids.map(() => node().script.hold("network detach"));
    const pods = await within(servedMs, node().start());
    expect(pods.sandboxes(everything).map(({ state }) => state)).toEqual(ids.map(() => "not-ready"));
    const tidying = pods.tidy();
    const cgroups = join(node().directory, "cgroup/keelson");
    await until("all cgroups are cleared", async () => (await readdir(cgroups)).length === 0);
    for (const held of hanging) held.release();
    await within(limits.shutdown, tidying);
    await expectTidy(pods);
  });

  test("one pod that cannot be taken down is listed, not ready, says why, and keeps no other from being taken down", async () => {
    const first = await node().start();
    const [a, b] = [await runPod(first, "a"), await runPod(first, "b")];
    await node().kill();
    for (const id of [a, b]) await rewriteLife(id, "starting");
    node().script.fail("host removeTree", new Error("EBUSY"));
    const pods = await node().start();
    await pods.tidy();
    const [left] = pods.sandboxes(everything);
    expect(pods.sandboxes(everything)).toHaveLength(1);
    expect(left).toMatchObject({ state: "not-ready", leftovers: ["remove the pod directory: EBUSY"] });
    await pods.removeSandbox(left?.id ?? "", never);
    await expectTidy(pods);
  });

  test("what a start that failed still owes the network is listed by the next daemon too, until it is taken back", async () => {
    const first = await node().start();
    node().network.failing = "DEL of bridge: not today";
    node().script.fail("network attach", new Error("not today"));
    await expect(runPod(first)).rejects.toThrow("not today");
    const pods = await node().restart();
    await pods.tidy();
    expect(pods.sandboxes(everything)).toMatchObject([
      { state: "not-ready", leftovers: ["detach the network: DEL of bridge: not today"] },
    ]);
    node().network.recovers();
    const last = await node().restart();
    await last.tidy();
    await expectTidy(last);
    expect(last.sandboxes(everything)).toEqual([]);
  });

  test("directories, layers and records of no pod are taken down, the network before the monitor", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await runContainer(first, id);
    await runPod(first, "kept");
    await node().kill();
    await rm(join(node().stateDirectory, `${id}.json`));
    const pods = await node().start();
    expect(pods.sandboxes(everything)).toHaveLength(1);
    const before = node().script.calls().length;
    await pods.tidy();
    expect(
      node()
        .script.calls()
        .slice(before)
        .filter((name) => name.startsWith("network d") || name === "monitor shutdown"),
    ).toEqual(["network detach", "monitor shutdown"]);
    await expectTidy(pods);
    expect(node().images.layers.has(c)).toBe(false);
  });

  test("what a request makes between the start and the clearing up is no stranger's", async () => {
    await runPod(await node().start(), "before");
    const pods = await node().restart();
    const id = await runPod(pods);
    await runContainer(pods, id);
    await pods.tidy();
    await expectTidy(pods);
    expect(pods.sandboxes({ ...everything, state: "ready" })).toHaveLength(2);
  });

  test("a request for a pod that is being finished waits for its turn, and finds it done", async () => {
    const id = await runPod(await node().start());
    await node().kill();
    await rewriteLife(id, "stopping");
    const detaching = node().script.hold("network detach");
    const pods = await node().start();
    const tidying = pods.tidy();
    await detaching.arrived;
    const removal = pods.removeSandbox(id, never);
    detaching.release();
    await Promise.all([tidying, removal]);
    expect(pods.sandboxes(everything)).toEqual([]);
    expect(node().script.count("network detach")).toBe(1);
  });

  test("garbage of the network is collected last, and spares the pods that are there", async () => {
    const first = await node().start();
    const [a, b] = [await runPod(first, "a"), await runPod(first, "b")];
    await first.stopSandbox(b, never);
    const pods = await node().restart();
    await pods.tidy();
    expect(node().script.calls().at(-1)).toBe("network collectGarbage");
    expect([...node().network.spared].toSorted()).toEqual([a, b].toSorted());
  });

  test("a daemon that is told to end while it clears up begins nothing more", async () => {
    const first = await node().start();
    const ids = await Promise.all(["a", "b", "c", "d", "e", "f"].map((name) => runPod(first, name)));
    await node().kill();
    for (const id of ids) await rewriteLife(id, "starting");
    const hanging = ids.map(() => node().script.hold("network detach"));
    const pods = await node().start();
    const tidying = pods.tidy();
    await until("the first DELs hang", () => node().script.count("network detach") === 4);
    await pods.close();
    for (const held of hanging) held.release();
    await tidying;
    expect(node().script.count("network detach")).toBe(4);
    expect(node().script.calls()).not.toContain("network collectGarbage");
  });
});

describe("records", () => {
  test("a damaged one is dropped, and what it described is taken down", async () => {
    const first = await node().start();
    const id = await runPod(first);
    await runContainer(first, id);
    await node().kill();
    await writeFile(join(node().stateDirectory, `${id}.json`), "{");
    const pods = await node().start();
    await pods.tidy();
    expect(pods.sandboxes(everything)).toEqual([]);
    expect(node().log.some((line) => line.startsWith(`error the record ${id}.json is damaged`))).toBe(true);
    await expectTidy(pods);
  });

  test("one that cannot be read: its pod, layers and containers are left alone, and the daemon serves", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await runContainer(first, id);
    await runPod(first, "kept");
    await node().kill();
    const path = join(node().stateDirectory, `${id}.json`);
    await rename(path, `${path}.aside`);
    await mkdir(path);
    const pods = await node().start();
    expect(pods.sandboxes(everything).map(({ config }) => config.metadata.name)).toEqual(["kept"]);
    await pods.tidy();
    expect(node().monitor(id).running).toEqual([c]);
    expect(await node().podDirectories()).toContain(String(id));
    expect(node().images.layers.has(c)).toBe(true);
    expect(node().network.attached.has(id)).toBe(true);
    expect(node().log.some((line) => line.includes("cannot be read, so what it describes is left alone"))).toBe(true);
  });

  test("of a container whose pod has none go", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await runContainer(first, id);
    await first.removeSandbox(id, never);
    const pods = await node().restart();
    await pods.tidy();
    expect(await node().record(c)).toBeUndefined();
    await expectTidy(pods);
  });

  test("of a handler that the configuration lost: the pod is listed and stops, and starts nothing", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await makeContainer(first, id);
    await node().kill();
    const record = await node().record(id);
    if (record?.kind === "sandbox")
      await (await Records.open(node().stateDirectory)).save({ ...record, handler: "kata" });
    const pods = await node().start();
    expect(pods.sandbox(id)).toMatchObject({ state: "ready", runtimeHandler: "kata" });
    await expect(pods.startContainer(c, never)).rejects.toMatchObject({ name: "handlerUnknown" });
    await expectRemovable(pods);
  });
});

describe("ends that no daemon saw", () => {
  test("are told as the monitor kept them", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const [a, b] = [await runContainer(first, id, "a"), await runContainer(first, id, "b")];
    await node().kill();
    node().monitor(id).exits(a, { exitCode: 5 });
    node().monitor(id).exits(b, { exitCode: 137, oomKilled: true });
    const pods = await node().start();
    expect(pods.container(a).phase).toMatchObject({ state: "exited", exitCode: 5, reason: "Error" });
    expect(pods.container(b).phase).toMatchObject({ state: "exited", exitCode: 137, reason: "OOMKilled" });
  });

  test("of a monitor that is gone are told by the exit records that it left, the others as unknown", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const [a, b] = [await runContainer(first, id, "a"), await runContainer(first, id, "b")];
    await node().kill();
    const times = { started_at: "1790000000000000000", finished_at: "1790000001000000000" };
    const exit = { id: a, state: "exited", pid: 7, ...times, exit_code: 5, signal: 0, oom_killed: false, tty: false };
    await mkdir(join(node().podDirectory(id), "exits"));
    await writeFile(join(node().podDirectory(id), "exits", `${a}.json`), JSON.stringify(exit));
    node().monitor(id).dies();
    const pods = await node().start();
    expect(pods.container(a).phase).toMatchObject({
      state: "exited",
      exitCode: 5,
      finishedAt: 1_790_000_001_000_000_000n,
    });
    expect(pods.container(b).phase).toMatchObject({ state: "exited", exitCode: 255, reason: "Unknown" });
  });

  test("a start that the daemon did not live to hear of: the container runs", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await makeContainer(first, id);
    const start = node().script.hold("monitor start");
    first.startContainer(c, never).catch(() => undefined);
    await start.arrived;
    start.act();
    const pods = await node().restart();
    expect(pods.container(c).phase.state).toBe("running");
  });

  test("a container that is running on record and unknown to its monitor has exited, and can be stopped and removed", async () => {
    const first = await node().start();
    const id = await runPod(first);
    const c = await runContainer(first, id);
    await node().kill();
    node().monitor(id).forgets(c);
    const pods = await node().start();
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 255 });
    await pods.stopContainer(c, 0n, never);
    await pods.removeContainer(c, never);
    expect(pods.containers(everything)).toEqual([]);
  });

  test("the init of a shared PID namespace: the pod is not ready, and is told of", async () => {
    const id = await runPod(await node().start());
    await node().kill();
    node().monitor(id).losesInit();
    const pods = await node().start();
    const told = recordEvents(pods);
    await pods.tidy();
    await until("it is told", () => told.includes("stopped p"));
    expect(pods.sandbox(id)).toMatchObject({ state: "not-ready", ips: [] });
    await until("it is stopped whole", () => node().monitor(id).isGone);
  });
});

test("a frozen monitor is waited for half a second, once, however many there are; its pods stay ready", async () => {
  const first = await node().start();
  const ids = await Promise.all(["a", "b", "c", "d"].map((name) => runPod(first, name)));
  await node().kill();
  for (const id of ids) node().monitor(id).freezes();
  const starting = node().start();
  await until("all are asked", () => node().script.count("monitor state") === ids.length);
  await quiet();
  await pass(500);
  const pods = await starting;
  expect(pods.sandboxes(everything).map(({ state }) => state)).toEqual(ids.map(() => "ready"));
});
