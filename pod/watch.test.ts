// The watch on a pod's monitor: order of exits, disconnects, missed events, a monitor or an init that
// dies.

import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { NodePods } from "./pods.ts";
import { holdTime, pass, quiet, until, within } from "./testing/clock.ts";
import { makeContainer, never, recordEvents, runContainer, runPod, useNode } from "./testing/node.ts";

const node = useNode();
holdTime();

/** A pod whose monitor is watched. */
async function watchedPod(): Promise<{ pods: NodePods; id: string }> {
  const pods = await node().start();
  const id = await runPod(pods);
  await until("the monitor is watched", () => node().monitor(id).watchers === 1);
  return { pods, id };
}

async function watchedAgain(id: string): Promise<void> {
  await quiet();
  await pass(100);
  await until("the monitor is watched again", () => node().monitor(id).watchers === 1);
  await quiet();
}

test("exits are reported in the monitor's order", async () => {
  const { pods, id } = await watchedPod();
  const events = recordEvents(pods);
  const names = ["a", "b", "c"];
  const ids = new Map<string, string>();
  for (const name of names) ids.set(name, await runContainer(pods, id, name));
  for (const name of ["b", "c", "a"])
    node()
      .monitor(id)
      .exits(ids.get(name) ?? "", { exitCode: 0 });
  await until("all have exited", () => events.length === 9);
  expect(events.slice(6)).toEqual(["stopped b", "stopped c", "stopped a"]);
});

test("a monitor that disconnects is watched again after a while, and missed exits are taken from its state, once", async () => {
  const { pods, id } = await watchedPod();
  const [a, b] = [await runContainer(pods, id, "a"), await runContainer(pods, id, "b")];
  const events = recordEvents(pods);
  node().monitor(id).hangsUpOnWatchers();
  await until("the watch is over", () => node().monitor(id).watchers === 0);
  node().monitor(id).exits(a, { exitCode: 9, oomKilled: true });
  expect(pods.container(a).phase.state).toBe("running");
  await watchedAgain(id);
  expect(pods.container(a).phase).toMatchObject({ state: "exited", exitCode: 9, reason: "OOMKilled" });
  expect(pods.container(b).phase.state).toBe("running");
  expect(pods.sandbox(id).state).toBe("ready");
  expect(events).toEqual(["stopped a"]);
});

test("a running container that the monitor no longer knows has exited with an unknown exit code", async () => {
  const { pods, id } = await watchedPod();
  const c = await runContainer(pods, id);
  node().monitor(id).hangsUpOnWatchers();
  node().monitor(id).forgets(c);
  await watchedAgain(id);
  expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 255, reason: "Unknown" });
});

test("a container that starts after the watch was requested, and is not in its first state, keeps running", async () => {
  const { pods, id } = await watchedPod();
  node().monitor(id).hangsUpOnWatchers();
  await until("the watch is over", () => node().monitor(id).watchers === 0);
  const watching = node().script.hold("monitor watch");
  await quiet();
  await pass(100);
  await watching.arrived;
  // The state is captured now; the container starts before the daemon reads it.
  watching.act();
  const c = await runContainer(pods, id);
  watching.release();
  await quiet();
  expect(pods.container(c).phase.state).toBe("running");
});

test("a start that the monitor reports before its answer is announced once", async () => {
  const { pods, id } = await watchedPod();
  const c = await makeContainer(pods, id);
  const events = recordEvents(pods);
  const start = node().script.hold("monitor start");
  const starting = pods.startContainer(c, never);
  await start.arrived;
  start.act();
  node().monitor(id).hangsUpOnWatchers();
  await watchedAgain(id);
  expect(pods.container(c).phase.state).toBe("running");
  start.release();
  await starting;
  await quiet();
  expect(events).toEqual(["started c"]);
});

test("a monitor that refuses the watch but answers is retried, without stopping its pod", async () => {
  const { pods, id } = await watchedPod();
  node().script.fail("monitor watch", new Error("busy"));
  node().monitor(id).hangsUpOnWatchers();
  await quiet();
  await pass(100);
  await until("it has refused", () => node().script.count("monitor watch") === 2);
  await watchedAgain(id);
  expect(pods.sandbox(id).state).toBe("ready");
  expect(node().log).toEqual([`warn pod sandbox ${id}: the watch on its monitor failed: Error: busy`]);
});

test("a frozen monitor is not a dead one: its pod stays ready, and is watched again once it thaws", async () => {
  const { pods, id } = await watchedPod();
  const c = await runContainer(pods, id);
  node().monitor(id).freezes();
  node().monitor(id).hangsUpOnWatchers();
  await until("it is asked whether it is alive", () => node().script.count("monitor hello") === 1);
  await pass(5_000);
  await quiet();
  expect(pods.sandbox(id).state).toBe("ready");
  expect(pods.container(c).phase.state).toBe("running");
  node().monitor(id).thaws();
  await within(
    20_000,
    until("it is watched", () => node().monitor(id).watchers === 1),
  );
});

test("a monitor that dies stops its pod: first the containers, from their exit records, then the pod, releasing its address", async () => {
  const { pods, id } = await watchedPod();
  const [a, b] = [await runContainer(pods, id, "a"), await runContainer(pods, id, "b")];
  const events = recordEvents(pods);
  const times = { started_at: "1790000000000000000", finished_at: "1790000001000000000" };
  const exit = { id: a, state: "exited", pid: 7, ...times, exit_code: 5, signal: 0, oom_killed: false, tty: false };
  await mkdir(join(node().podDirectory(id), "exits"));
  await writeFile(join(node().podDirectory(id), "exits", `${a}.json`), JSON.stringify(exit));
  node().monitor(id).dies();
  await until("the pod is stopped", () => events.includes("stopped p"));
  expect(events.toSorted()).toEqual(["stopped a", "stopped b", "stopped p"]);
  expect(events.at(-1)).toBe("stopped p");
  expect(pods.container(a).phase).toMatchObject({ exitCode: 5 });
  expect(pods.container(b).phase).toMatchObject({ exitCode: 255, reason: "Unknown" });
  expect(pods.sandbox(id)).toMatchObject({ state: "not-ready", ips: [] });
  expect(node().network.leases()).toEqual([]);
  expect(await node().record(id)).toMatchObject({ life: "stopped" });
});

test("an init that dies while its pod's queue is busy: the pod is not ready at once, the rest waits for its turn", async () => {
  const { pods, id } = await watchedPod();
  const preparing = node().script.hold("images prepareSnapshot");
  const creating = makeContainer(pods, id);
  await preparing.arrived;
  node().monitor(id).losesInit();
  await until("the pod is not ready", () => pods.sandbox(id).state === "not-ready");
  expect(node().script.calls()).not.toContain("network detach");
  preparing.release();
  await creating;
  await until("the network is detached", () => node().network.leases().length === 0);
});

test("a monitor that dies while its pod's queue is busy: processes are killed and the pod is not ready at once, the rest waits for its turn", async () => {
  const { pods, id } = await watchedPod();
  const cgroup = join(node().directory, "cgroup/keelson", id);
  await mkdir(cgroup, { recursive: true });
  const preparing = node().script.hold("images prepareSnapshot");
  const creating = makeContainer(pods, id);
  await preparing.arrived;
  node().monitor(id).dies();
  await until("the pod is not ready", () => pods.sandbox(id).state === "not-ready");
  await quiet();
  expect(existsSync(cgroup)).toBe(false);
  expect(await node().record(id)).toMatchObject({ life: "stopping" });
  expect(node().script.calls()).not.toContain("network detach");
  preparing.release();
  await creating;
  await until("the network is detached", () => node().network.leases().length === 0);
});

test("a monitor that dies during its pod's removal: the stop behind the removal writes no record of the removed pod", async () => {
  const { pods, id } = await watchedPod();
  node().network.failing = "DEL of bridge: not today";
  const preparing = node().script.hold("images prepareSnapshot");
  const creating = makeContainer(pods, id);
  await preparing.arrived;
  const removing = pods.removeSandbox(id, never);
  node().monitor(id).dies();
  await until("the pod is not ready", () => pods.sandbox(id).state === "not-ready");
  await quiet();
  preparing.release();
  await creating;
  await removing;
  await until("the stop has had its turn", () => node().script.count("network detach") === 2);
  await quiet();
  expect(await node().records()).toEqual([]);
});

test("an init that dies stops its pod: not ready, with an event, and nothing starts in it", async () => {
  const { pods, id } = await watchedPod();
  const c = await runContainer(pods, id);
  const other = await makeContainer(pods, id, "other");
  const events = recordEvents(pods);
  node().monitor(id).losesInit();
  await until("the pod is stopped", () => events.includes("stopped p"));
  expect(pods.sandbox(id)).toMatchObject({ state: "not-ready", ips: [] });
  expect(pods.container(c).phase.state).toBe("exited");
  expect(node().monitor(id).isGone).toBe(true);
  await expect(pods.startContainer(other, never)).rejects.toMatchObject({ name: "sandboxNotReady" });
});

test("an OOM kill is logged, and does not stop the container by itself", async () => {
  const { pods, id } = await watchedPod();
  const c = await runContainer(pods, id);
  node().monitor(id).runsOutOfMemory(c);
  await until("it is logged", () => node().log.length > 0);
  expect(node().log).toEqual([`info container ${c}: the OOM killer killed one of its processes`]);
  expect(pods.container(c).phase.state).toBe("running");
});

test("a stopped pod is no longer watched, and its monitor's exit is not reported", async () => {
  const { pods, id } = await watchedPod();
  const events = recordEvents(pods);
  await pods.stopSandbox(id, never);
  await quiet();
  expect(node().monitor(id).watchers).toBe(0);
  expect(events).toEqual(["stopped p"]);
  expect(node().log).toEqual([]);
});
