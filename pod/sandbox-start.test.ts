// RunPodSandbox: the steps of a start, each failing or hanging, and its undo.

import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { ownHost } from "../native/index.ts";
import { limits } from "./environment.ts";
import { holdTime, pass, until } from "./testing/clock.ts";
import { sandboxConfig } from "./testing/configs.ts";
import { breakDisk, never, recordEvents, runPod, useNode } from "./testing/node.ts";
import { expectNothingLeft } from "./testing/truth.ts";

const everything = { labels: new Map() };
const config = sandboxConfig("p");
const namespaces = { ...config.security.namespaces, network: "node" } as const;
const onHost = { ...config, security: { ...config.security, namespaces } };
const node = useNode();
holdTime();

/** Holds the next write to disk back. */
function holdWrite() {
  const [arrival, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { changeFiles } = ownHost();
  vi.spyOn(ownHost(), "changeFiles").mockImplementationOnce(async (steps) => {
    arrival.resolve();
    await answer.promise;
    await changeFiles(steps);
  });
  return { arrived: arrival.promise, release: answer.resolve };
}

test("starts a pod that is recorded, has an address, and is announced once", async () => {
  const pods = await node().start();
  const events = recordEvents(pods);
  const id = await runPod(pods);
  expect(pods.sandbox(id)).toMatchObject({ state: "ready", ips: ["10.88.0.1"], leftovers: [] });
  // In order of completion; the last two run in parallel and may finish in either order.
  expect(
    pods
      .sandbox(id)
      .timeline.map(({ stage }) => stage)
      .toSorted(),
  ).toEqual(["files", "monitor", "network"]);
  expect(await node().record(id)).toMatchObject({
    life: "ready",
    ips: ["10.88.0.1"],
    monitorPid: node().monitor(id).pid,
  });
  await until("both events are reported", () => events.length === 2);
  expect(events).toEqual(["created p", "started p"]);
});

test("network sysctls are set again once the network is attached, those of an interface last", async () => {
  const pods = await node().start();
  const sysctls = new Map([
    ["net.ipv4.conf.eth0.forwarding", "1"],
    ["kernel.shm_rmid_forced", "1"],
    ["net.ipv4.conf.all.forwarding", "0"],
  ]);
  const id = await pods.runSandbox({ ...sandboxConfig("p"), sysctls }, "", never);
  const calls = node().script.calls();
  expect(calls.indexOf("monitor setNetworkSysctls")).toBeGreaterThan(calls.indexOf("network attach"));
  expect(
    node()
      .monitor(id)
      .networkSysctls.map((set) => Object.entries(set)),
  ).toEqual([
    [
      ["net.ipv4.conf.all.forwarding", "0"],
      ["net.ipv4.conf.eth0.forwarding", "1"],
    ],
  ]);
  // The interface does not exist yet when the monitor creates the namespace.
  const written = JSON.parse(await readFile(join(node().podDirectory(id), "sandbox.json"), "utf8"));
  expect(written.sysctls).toEqual({ "kernel.shm_rmid_forced": "1", "net.ipv4.conf.all.forwarding": "0" });
});

test("a pod with host networking attaches no network, and does not need the network to be ready", async () => {
  node().network.status = { ready: false, reason: "NetworkPluginNotReady", message: "no configuration" };
  const pods = await node().start();
  const id = await pods.runSandbox(onHost, "", never);
  expect(pods.sandbox(id)).toMatchObject({ state: "ready", ips: [], netnsPath: "" });
  expect(node().script.calls()).not.toContain("network attach");
  await expect(runPod(pods, "q")).rejects.toMatchObject({ name: "networkNotReady" });
});

test("the network is attached while the monitor sets up the rest of the sandbox", async () => {
  const pods = await node().start();
  const spawning = node().script.hold("monitor spawn");
  const attaching = node().script.hold("network attach");
  const running = runPod(pods);
  await spawning.arrived;
  expect(node().script.calls()).not.toContain("network attach");
  spawning.act();
  await attaching.arrived;
  attaching.release();
  spawning.release();
  expect(pods.sandbox(await running)).toMatchObject({ state: "ready", ips: ["10.88.0.1"] });
});

describe("a step that fails", () => {
  test("the monitor: nothing is left, no network was attached, and a retry succeeds", async () => {
    const pods = await node().start();
    node().script.fail("monitor spawn", new Error("clone3: EAGAIN"));
    await expect(runPod(pods)).rejects.toThrow("EAGAIN");
    await expectNothingLeft(node());
    expect(node().script.calls()).not.toContain("network attach");
    await runPod(pods);
    expect(pods.sandboxes(everything)).toHaveLength(1);
  });

  test("the network: its attachment, the monitor and the directory are undone in this order, and a retry succeeds", async () => {
    const pods = await node().start();
    node().script.fail("network attach", new Error("not today"));
    await expect(runPod(pods)).rejects.toThrow("not today");
    expect(node().script.calls()).toEqual([
      "monitor spawn",
      "network attach",
      "network detach",
      "monitor shutdown",
      "host unmount",
      "host removeTree",
    ]);
    await expectNothingLeft(node());
    expect(pods.sandboxes(everything)).toEqual([]);
    await runPod(pods);
  });

  test("the monitor, after its network was attached: the network is detached", async () => {
    const pods = await node().start();
    const spawning = node().script.hold("monitor spawn");
    const running = runPod(pods);
    await spawning.arrived;
    spawning.act();
    await until("it is attached", () =>
      node()
        .network.leases()
        .some(({ state }) => state === "attached"),
    );
    spawning.fail(new Error("no cgroup"));
    await expect(running).rejects.toThrow("no cgroup");
    expect(node().script.calls()).toContain("network detach");
    await expectNothingLeft(node());
  });

  test("the pod's files, after the monitor started: the monitor is shut down", async () => {
    const pods = await node().start();
    const spawning = node().script.hold("monitor spawn");
    const running = runPod(pods);
    await spawning.arrived;
    spawning.act();
    const [directory = ""] = await node().podDirectories();
    await rm(`${node().podDirectory(directory)}/files`, { recursive: true });
    spawning.release();
    await expect(running).rejects.toThrow("ENOENT");
    await expectNothingLeft(node());
  });

  test("the first record: refused before anything is created", async () => {
    const pods = await node().start();
    await breakDisk(node());
    await expect(runPod(pods)).rejects.toThrow("ENOTDIR");
    expect(node().script.calls()).not.toContain("monitor spawn");
    expect(await node().podDirectories()).toEqual([]);
  });

  test("the last record: a pod that is not recorded as ready is rolled back, and its address is released", async () => {
    const pods = await node().start();
    const attaching = node().script.hold("network attach");
    const running = runPod(pods);
    await attaching.arrived;
    await breakDisk(node());
    attaching.release();
    await expect(running).rejects.toThrow("ENOTDIR");
    expect(node().network.leases()).toEqual([]);
    expect(node().monitors.map(({ isGone }) => isGone)).toEqual([true]);
    expect(pods.sandboxes({ labels: new Map(), state: "ready" })).toEqual([]);
  });

  test("and its undo too: the rest is recorded and listed as not ready until it is removed; its name is free", async () => {
    const pods = await node().start();
    node().network.failing = "DEL of bridge: not today";
    node().script.fail("network attach", new Error("ADD of bridge: not today"));
    await expect(runPod(pods)).rejects.toThrow("ADD of bridge");
    const [left] = pods.sandboxes(everything);
    expect(left).toMatchObject({ state: "not-ready", leftovers: ["detach the network: DEL of bridge: not today"] });
    expect(await node().record(left?.id ?? "")).toMatchObject({ life: "starting" });

    node().network.recovers();
    const id = await runPod(pods);
    await pods.removeSandbox(left?.id ?? "", never);
    expect(pods.sandboxes(everything).map((one) => one.id)).toEqual([id]);
    expect(await node().record(left?.id ?? "")).toBeUndefined();
  });

  test("the removal of the directory fails: the other undos run anyway, and StopPodSandbox retries", async () => {
    const pods = await node().start();
    node().script.fail("network attach", new Error("not today"));
    node().script.fail("host removeTree", new Error("EBUSY"));
    await expect(runPod(pods)).rejects.toThrow("not today");
    const [left] = pods.sandboxes(everything);
    expect(left?.leftovers).toEqual(["remove the pod directory: EBUSY"]);
    expect(node().network.leases()).toEqual([]);
    await pods.stopSandbox(left?.id ?? "", never);
    expect(pods.sandboxes(everything)).toEqual([]);
    await expectNothingLeft(node());
  });
});

describe("a step that hangs", () => {
  test("the monitor: times out at its own limit, is undone, and a retry succeeds", async () => {
    const pods = await node().start();
    const spawning = node().script.hold("monitor spawn");
    const running = runPod(pods);
    running.catch(() => undefined);
    await spawning.arrived;
    await pass(limits.monitorStart);
    await expect(running).rejects.toThrow("not ready within");
    await expectNothingLeft(node());
    await runPod(pods);
  });

  test("the network: the whole start times out and is undone", async () => {
    const pods = await node().start();
    const attaching = node().script.hold("network attach");
    const running = runPod(pods);
    running.catch(() => undefined);
    await attaching.arrived;
    await pass(limits.sandboxStart - 1_000);
    expect(node().script.calls()).not.toContain("network detach");
    await pass(1_000);
    await expect(running).rejects.toMatchObject({ name: "stepDeadline", code: "DeadlineExceeded" });
    await expectNothingLeft(node());
    await runPod(pods);
  });

  test("the disk: after the limit of the whole start, no monitor is started", async () => {
    const pods = await node().start();
    const written = holdWrite();
    const running = pods.runSandbox(onHost, "", never);
    running.catch(() => undefined);
    await written.arrived;
    await pass(limits.sandboxStart);
    written.release();
    await expect(running).rejects.toMatchObject({ name: "stepDeadline", code: "DeadlineExceeded" });
    expect(node().script.calls()).not.toContain("monitor spawn");
    await expectNothingLeft(node());
  });

  test("the disk, and then the monitor: a pod that took longer than the whole limit is undone, not ready", async () => {
    const pods = await node().start();
    const written = holdWrite();
    const spawning = node().script.hold("monitor spawn");
    const running = pods.runSandbox(onHost, "", never);
    running.catch(() => undefined);
    await written.arrived;
    await pass(limits.sandboxStart - 1_000);
    written.release();
    await spawning.arrived;
    await pass(1_000);
    spawning.release();
    await expect(running).rejects.toMatchObject({ name: "stepDeadline", code: "DeadlineExceeded" });
    await expectNothingLeft(node());
  });

  test("an undo: it times out, is reported, and does not block the others", async () => {
    const pods = await node().start();
    node().script.fail("network attach", new Error("not today"));
    const detaching = node().script.hold("network detach");
    const running = runPod(pods);
    running.catch(() => undefined);
    await detaching.arrived;
    await pass(limits.undo);
    await expect(running).rejects.toThrow("not today");
    const [left] = pods.sandboxes(everything);
    expect(left?.leftovers[0]).toBe(`detach the network: timed out after ${limits.undo} ms`);
    expect(node().monitors.map(({ isGone }) => isGone)).toEqual([true]);
    expect(await node().podDirectories()).toEqual([]);
  });
});

test("nothing is made for a handler whose runtime is refused", async () => {
  const pods = await node().start();
  const check = async () => {
    throw new Error("runc 1.0 is vulnerable");
  };
  const features = { recursiveReadOnlyMounts: false, userNamespaces: false };
  node().handlers.set("runc", { name: "runc", features, usable: false, check });
  await expect(pods.runSandbox(sandboxConfig("p"), "runc", never)).rejects.toThrow("is vulnerable");
  await expectNothingLeft(node());
  expect(node().script.calls()).toEqual([]);
});

test("a pod with a user namespace is refused with a handler that has none", async () => {
  const pods = await node().start();
  const features = { recursiveReadOnlyMounts: true, userNamespaces: false };
  node().handlers.set("runc", { name: "runc", features, usable: true, check: async () => undefined });
  const config = sandboxConfig("p");
  const user = { mode: "pod", uids: [], gids: [] } as const;
  const security = { ...config.security, namespaces: { ...config.security.namespaces, user } };
  const start = pods.runSandbox({ ...config, security }, "runc", never);
  await expect(start).rejects.toMatchObject({ name: "userNamespaceUnsupported" });
  await expectNothingLeft(node());
});

test("an unknown handler is refused by name", async () => {
  const pods = await node().start();
  await expect(pods.runSandbox(sandboxConfig("p"), "kata", never)).rejects.toMatchObject({ name: "handlerUnknown" });
});
