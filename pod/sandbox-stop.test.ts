// StopPodSandbox and RemovePodSandbox: recorded before they change anything, retried after failures,
// stops during a start, and calls for objects that no longer exist.

import { existsSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { limits } from "./environment.ts";
import { holdTime, pass, quiet, until } from "./testing/clock.ts";
import { containerConfig, sandboxConfig } from "./testing/configs.ts";
import { makeContainer, never, recordEvents, runContainer, runPod, useNode } from "./testing/node.ts";
import type { PodEvent } from "./types.ts";

const everything = { labels: new Map() };
const node = useNode();
holdTime();

describe("a stop", () => {
  test("kills the containers, detaches the network, ends the monitor; the pod stays listed, not ready and without an address", async () => {
    const pods = await node().start();
    const events = recordEvents(pods);
    const id = await runPod(pods);
    const c = await runContainer(pods, id);
    const before = node().script.calls().length;
    await pods.stopSandbox(id, never);
    expect(node().script.calls().slice(before)).toEqual(["monitor stop", "network detach", "monitor shutdown"]);
    expect(pods.sandbox(id)).toMatchObject({ state: "not-ready", ips: [], monitorPid: 0, leftovers: [] });
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 137, reason: "Error" });
    expect(await node().record(id)).toMatchObject({ life: "stopped", ips: [], monitorPid: 0 });
    await until("all events are reported", () => events.length === 6);
    expect(events).toEqual(["created p", "started p", "created c", "started c", "stopped c", "stopped p"]);
  });

  test("is confirmed again after it is done, for kubelets that only accept newer events; a removed pod is not", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    await runContainer(pods, id);
    await pass(60_000);
    const confirmed: PodEvent[] = [];
    const read = async () => {
      for await (const event of pods.events(never, () => undefined))
        if (event.type === "confirmed") confirmed.push(event);
    };
    void read();
    await pods.stopSandbox(id, never);
    await pass(60_000);
    expect(confirmed.map(({ containerId }) => containerId)).toEqual([id, id, id]);
    for (const { sandbox, containers } of confirmed) {
      expect(sandbox?.state).toBe("not-ready");
      expect(containers.map(({ phase }) => phase.state)).toEqual(["exited"]);
    }
    await pods.removeSandbox(id, never);
    await pass(60_000);
    expect(confirmed).toHaveLength(3);
  });

  test("is recorded before anything is torn down", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    await runContainer(pods, id);
    const killing = node().script.hold("monitor stop");
    const stopping = pods.stopSandbox(id, never);
    await killing.arrived;
    expect(await node().record(id)).toMatchObject({ life: "stopping", ips: [] });
    expect(pods.sandbox(id)).toMatchObject({ state: "not-ready", ips: [] });
    killing.release();
    await stopping;
  });

  test("nothing can start in a pod whose stop has begun", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await makeContainer(pods, id);
    const detaching = node().script.hold("network detach");
    const stopping = pods.stopSandbox(id, never);
    await detaching.arrived;
    const [start, create] = [pods.startContainer(c, never), makeContainer(pods, id, "d")];
    detaching.release();
    await stopping;
    await expect(start).rejects.toMatchObject({ name: "sandboxNotReady" });
    await expect(create).rejects.toMatchObject({ name: "sandboxNotReady" });
    expect(() => pods.forwardable(id)).toThrow(/not ready/);
  });

  test("of a stopped or unknown pod does nothing", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    await Promise.all([pods.stopSandbox(id, never), pods.stopSandbox(id, never)]);
    expect(node().script.count("network detach")).toBe(1);
    const calls = node().script.calls().length;
    await pods.stopSandbox(id, never);
    await pods.stopSandbox("f".repeat(64), never);
    await pods.removeSandbox("f".repeat(64), never);
    expect(node().script.calls()).toHaveLength(calls);
  });

  test("continues when its caller gives up, and the retry waits for it to finish", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const detaching = node().script.hold("network detach");
    const caller = new AbortController();
    const stopping = pods.stopSandbox(id, caller.signal);
    await detaching.arrived;
    caller.abort();
    await expect(stopping).rejects.toMatchObject({ code: "Cancelled" });
    const retry = pods.stopSandbox(id, never);
    detaching.release();
    await retry;
    expect(node().script.count("network detach")).toBe(1);
    expect(await node().record(id)).toMatchObject({ life: "stopped" });
  });

  test("a caller that waits too long in the queue gets an error that names the running step", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const detaching = node().script.hold("network detach");
    const stopping = pods.stopSandbox(id, never);
    await detaching.arrived;
    const waiting = pods.removeSandbox(id, never);
    waiting.catch(() => undefined);
    await pass(limits.queue);
    await expect(waiting).rejects.toMatchObject({ name: "busy", message: expect.stringContaining("(stop)") });
    detaching.release();
    await stopping;
    expect(pods.sandbox(id).state, "it left the queue and never ran").toBe("not-ready");
  });
});

test("a stop removes the containers' cgroups from a kubelet's pod cgroup, and not that cgroup", async () => {
  const pods = await node().start();
  const id = await pods.runSandbox({ ...sandboxConfig("p"), cgroupParent: "/kubepods/pod1" }, "", never);
  const c = await runContainer(pods, id);
  const kubelets = join(node().directory, "cgroup/kubepods/pod1");
  await mkdir(join(kubelets, c), { recursive: true });
  await mkdir(join(kubelets, "other"));
  await pods.stopSandbox(id, never);
  expect(await readdir(kubelets)).toEqual(["other"]);
});

test("a monitor that has answered its shutdown but does not exit is killed", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  await pods.stopSandbox(id, never);
  node().monitor(id).thaws();
  await pass(1_000);
  await until("it is killed", () => node().monitor(id).isGone);
});

test("a stop of a pod whose monitor died before the daemon started kills its processes before the network's plugins run", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const cgroup = join(node().directory, "cgroup/keelson", id);
  await mkdir(cgroup, { recursive: true });
  node().monitor(id).dies();
  const next = await node().restart();
  const detaching = node().script.hold("network detach");
  const stopping = next.stopSandbox(id, never);
  await detaching.arrived;
  expect(existsSync(cgroup)).toBe(false);
  detaching.release();
  await stopping;
});

describe("a step that fails", () => {
  test("a DEL: the pod is stopped anyway, the network keeps the pending DEL, and another stop retries it", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    node().network.failing = "DEL of bridge: not today";
    await pods.stopSandbox(id, never);
    expect(await node().record(id)).toMatchObject({ life: "stopped" });
    expect(node().monitor(id).isGone).toBe(true);
    expect(node().network.leases()).toMatchObject([{ sandboxId: id, state: "detach-failed" }]);
    node().network.failing = undefined;
    await pods.stopSandbox(id, never);
    expect(node().network.leases()).toEqual([]);
  });

  test("a DEL that rejects: the rest is torn down, the stop reports the reason, and the next stop finishes it", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const events = recordEvents(pods);
    node().script.fail("network detach", new Error("the leases cannot be written"));
    await expect(pods.stopSandbox(id, never)).rejects.toThrow("leases cannot be written");
    expect(pods.sandbox(id).leftovers).toEqual(["detach the network: the leases cannot be written"]);
    expect(node().monitor(id).isGone).toBe(true);
    expect(await node().record(id)).toMatchObject({ life: "stopping" });
    await pods.stopSandbox(id, never);
    expect(pods.sandbox(id).leftovers).toEqual([]);
    expect(await node().record(id)).toMatchObject({ life: "stopped" });
    expect(node().network.leases()).toEqual([]);
    await quiet();
    expect(events.filter((one) => one === "stopped p")).toHaveLength(1);
  });

  test("a monitor that does not answer: the stop gives up on it after its time limits, and the pod is stopped", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await runContainer(pods, id);
    node().monitor(id).freezes();
    const stopping = pods.stopSandbox(id, never);
    await until("it is asked", () => node().script.count("monitor stop", c) === 1);
    await pass(limits.shutdown);
    await until("it is asked to shut down", () => node().script.count("monitor shutdown") === 1);
    expect(node().network.leases()).toEqual([]);
    await pass(limits.shutdown);
    await stopping;
    expect(node().monitor(id).isGone).toBe(true);
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 255, reason: "Unknown" });
    expect(await node().record(id)).toMatchObject({ life: "stopped" });
  });

  test("processes that do not die: the stop fails with an explanation, and a later stop succeeds", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    // A non-empty directory simulates a cgroup with a process in it.
    const cgroup = join(node().directory, "cgroup/keelson", id);
    await mkdir(cgroup, { recursive: true });
    await writeFile(join(cgroup, "process"), "");
    const stopping = pods.stopSandbox(id, never);
    stopping.catch(() => undefined);
    await until("the monitor is dead", () => node().monitor(id).isGone);
    for (let waited = 0; waited <= limits.shutdown; waited += 1_000) {
      await quiet();
      await pass(1_000);
    }
    await expect(stopping).rejects.toMatchObject({
      code: "DeadlineExceeded",
      message: expect.stringMatching(
        /^Processes in the cgroup .* did not die within 20 s of SIGKILL\. They are blocked/,
      ),
    });
    expect(pods.sandbox(id).leftovers[0]).toMatch(/^shut down the monitor: Processes in the cgroup/);
    expect(await node().record(id)).toMatchObject({ life: "stopping" });
    await rm(join(cgroup, "process"));
    await pods.stopSandbox(id, never);
    expect(pods.sandbox(id).leftovers).toEqual([]);
  });

  test("a full disk: the pod is stopped and removed without a record of it", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    await rm(node().stateDirectory, { recursive: true });
    await writeFile(node().stateDirectory, "");
    await pods.stopSandbox(id, never);
    expect(pods.sandbox(id)).toMatchObject({ state: "not-ready", leftovers: [] });
    expect(node().network.leases()).toEqual([]);
    expect(node().log.some((line) => line.includes("its stop could not be recorded, but continues"))).toBe(true);
    await rm(node().stateDirectory);
    await mkdir(node().stateDirectory);
    await pods.removeSandbox(id, never);
    expect(pods.sandboxes(everything)).toEqual([]);
  });
});

describe("a removal", () => {
  test("stops first, then removes layers, directory and records, the pod's record last", async () => {
    const pods = await node().start();
    const events = recordEvents(pods);
    const id = await runPod(pods);
    const c = await runContainer(pods, id);
    const removing = node().script.hold("host removeTree");
    const removal = pods.removeSandbox(id, never);
    await removing.arrived;
    // In parallel with the directory.
    await until("the container's record is removed", async () => (await node().record(c)) === undefined);
    expect(node().images.layers.size).toBe(0);
    expect(await node().record(id)).toMatchObject({ life: "stopped" });
    removing.release();
    await removal;
    expect(await node().records()).toEqual([]);
    expect(await node().podDirectories()).toEqual([]);
    expect(pods.sandboxes(everything)).toEqual([]);
    expect(() => pods.container(c)).toThrow("does not exist");
    await until("all events are reported", () => events.includes("deleted p"));
    expect(events.slice(-4)).toEqual(["stopped c", "stopped p", `deleted ${c.slice(0, 12)}`, "deleted p"]);
  });

  test("that fails leaves the pod listed, and the next one finishes it", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    await makeContainer(pods, id);
    node().script.fail("images removeSnapshot", new Error("EBUSY"));
    await expect(pods.removeSandbox(id, never)).rejects.toThrow("EBUSY");
    expect(pods.sandboxes(everything).map(({ state }) => state)).toEqual(["not-ready"]);
    await pods.removeSandbox(id, never);
    expect(await node().records()).toEqual([]);
    expect(pods.containers(everything)).toEqual([]);
  });

  test("that fails after its containers were removed: the next one publishes their events and unlists them", async () => {
    const pods = await node().start();
    const events = recordEvents(pods);
    const id = await runPod(pods);
    const c = await makeContainer(pods, id);
    const removing = node().script.hold("host removeTree");
    const removal = pods.removeSandbox(id, never);
    await until("the container's record is removed", async () => (await node().record(c)) === undefined);
    removing.fail(new Error("EBUSY"));
    await expect(removal).rejects.toThrow("EBUSY");
    await pods.removeSandbox(id, never);
    expect(pods.containers(everything)).toEqual([]);
    await until("all events are reported", () => events.includes("deleted p"));
    expect(events.slice(-2)).toEqual([`deleted ${c.slice(0, 12)}`, "deleted p"]);
  });

  test("is final: a stop and an update that were queued behind it write no record", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    node().network.failing = "DEL of bridge: not today";
    const removing = node().script.hold("host removeTree");
    const removal = pods.removeSandbox(id, never);
    await removing.arrived;
    const stopping = pods.stopSandbox(id, never);
    const updating = pods.updateSandboxResources(id, {}, never);
    removing.release();
    await removal;
    await stopping;
    await expect(updating).rejects.toMatchObject({ code: "NotFound" });
    await quiet();
    expect(await node().records()).toEqual([]);
    expect((await node().restart()).sandboxes(everything)).toEqual([]);
  });

  test("with a network teardown that fails removes the pod, and the lease stays for the network to retry", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    node().network.failing = "DEL of bridge: not today";
    await pods.removeSandbox(id, never);
    expect(pods.sandboxes(everything)).toEqual([]);
    expect(await node().podDirectories()).toEqual([]);
    expect(node().network.leases()).toMatchObject([{ state: "detach-failed" }]);
  });

  test("two concurrent ones count as one", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    await Promise.all([pods.removeSandbox(id, never), pods.removeSandbox(id, never)]);
    expect(node().script.count("network detach")).toBe(1);
    expect(pods.sandboxes(everything)).toEqual([]);
  });
});

describe("other operations in the pod", () => {
  test("a stop waits for a container start in progress, then kills the container", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await makeContainer(pods, id);
    const starting = node().script.hold("monitor start");
    const start = pods.startContainer(c, never);
    await starting.arrived;
    const stopping = pods.stopSandbox(id, never);
    await quiet();
    expect(node().script.calls()).not.toContain("network detach");
    starting.release();
    await start;
    await stopping;
    expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 137 });
  });

  test("a container create whose caller gave up finishes before the stop, and its retry finds the container", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const preparing = node().script.hold("images prepareSnapshot");
    const caller = new AbortController();
    const config = containerConfig("c", "img", ["/bin/sleep"]);
    const create = pods.createContainer(id, config, caller.signal);
    await preparing.arrived;
    caller.abort();
    await expect(create).rejects.toMatchObject({ code: "Cancelled" });
    const retry = pods.createContainer(id, config, never);
    const stopping = pods.stopSandbox(id, never);
    preparing.release();
    const c = await retry;
    await stopping;
    expect(pods.containersOf(id).map((one) => one.id)).toEqual([c]);
  });

  test("other pods do not wait for it", async () => {
    const pods = await node().start();
    const [slow, quick] = [await runPod(pods, "slow"), await runPod(pods, "quick")];
    const detaching = node().script.hold("network detach");
    const stopping = pods.stopSandbox(slow, never);
    await detaching.arrived;
    await pods.removeSandbox(quick, never);
    await pods.runSandbox(sandboxConfig("third"), "", never);
    detaching.release();
    await stopping;
  });
});

test("a daemon that shuts down logs the pods with unfinished work", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const detaching = node().script.hold("network detach");
  pods.stopSandbox(id, never).catch(() => undefined);
  await detaching.arrived;
  const parent = join(node().directory, "cgroup/keelson");
  await mkdir(parent);
  await pods.close();
  expect(existsSync(parent), "the empty cgroup of the pods is removed").toBe(false);
  expect(node().log.filter((line) => line.includes("has unfinished work"))).toEqual([
    `info pod sandbox ${id} has unfinished work, which continues at the next start`,
  ]);
});
