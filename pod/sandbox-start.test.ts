// RunPodSandbox: each step failing or hanging, callers that give up, retries that join, names that are free again.

import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { limits } from "./environment.ts";
import type { NodePods } from "./pods.ts";
import { holdTime, pass, quiet, until } from "./testing/clock.ts";
import { sandboxConfig } from "./testing/configs.ts";
import { makeContainer, never, recordEvents, runPod, useNode } from "./testing/node.ts";

const everything = { labels: new Map() };
const node = useNode();
holdTime();

/** Checks that nothing of a pod is left on the node. */
async function expectNothingLeft(): Promise<void> {
  expect(await node().podDirectories()).toEqual([]);
  expect(await node().records()).toEqual([]);
  expect(node().network.leases()).toEqual([]);
  expect(node().monitors.filter((monitor) => !monitor.isGone)).toEqual([]);
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
  const config = sandboxConfig("p");
  const { security } = config;
  const onHost = {
    ...config,
    security: { ...security, namespaces: { ...security.namespaces, network: "node" } },
  } as const;
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
    await expectNothingLeft();
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
      "host removeTree",
    ]);
    await expectNothingLeft();
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
    await expectNothingLeft();
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
    await expectNothingLeft();
  });

  test("the first record: refused before anything is created", async () => {
    const pods = await node().start();
    await breakDisk();
    await expect(runPod(pods)).rejects.toThrow("ENOTDIR");
    expect(node().script.calls()).not.toContain("monitor spawn");
    expect(await node().podDirectories()).toEqual([]);
  });

  test("the last record: a pod that is not recorded as ready is rolled back, and its address is released", async () => {
    const pods = await node().start();
    const attaching = node().script.hold("network attach");
    const running = runPod(pods);
    await attaching.arrived;
    await breakDisk();
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
    await expectNothingLeft();
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
    await expectNothingLeft();
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
    await expectNothingLeft();
    await runPod(pods);
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

describe("a caller that gives up", () => {
  /** A start that hangs in its network, and whose caller has given up. */
  async function abandoned(pods: NodePods) {
    const attaching = node().script.hold("network attach");
    const caller = new AbortController();
    const running = pods.runSandbox(sandboxConfig("p"), "", caller.signal);
    await attaching.arrived;
    caller.abort();
    await expect(running).rejects.toMatchObject({ name: "callerGone", code: "Cancelled" });
    return attaching;
  }

  async function startIsOver(): Promise<void> {
    await until("the pod is on record as ready", async () => {
      const [record] = await node().records();
      return record?.kind === "sandbox" && record.life === "ready";
    });
  }

  test("a retry joins the start in progress, and both callers get the same pod", async () => {
    const pods = await node().start();
    const attaching = node().script.hold("network attach");
    const first = runPod(pods);
    await attaching.arrived;
    const second = runPod(pods);
    attaching.release();
    expect(await second).toBe(await first);
    expect(node().script.count("monitor spawn")).toBe(1);
  });

  test("a retry before the start finishes gets the pod", async () => {
    const pods = await node().start();
    const attaching = await abandoned(pods);
    const retry = runPod(pods);
    attaching.release();
    const id = await retry;
    expect(pods.sandboxes(everything).map((one) => one.id)).toEqual([id]);
    expect(node().script.count("network attach")).toBe(1);
  });

  test("a retry after the start finished gets the unclaimed pod, which is not listed until then", async () => {
    const pods = await node().start();
    const events = recordEvents(pods);
    (await abandoned(pods)).release();
    await startIsOver();
    await quiet();
    expect(pods.sandboxes(everything)).toEqual([]);
    expect(await pods.sandboxMetrics()).toEqual([]);
    expect(events).toEqual([]);
    const id = await runPod(pods);
    expect(pods.sandboxes(everything).map((one) => one.id)).toEqual([id]);
    expect(node().script.count("monitor spawn")).toBe(1);
    await until("it is reported", () => events.length > 0);
    expect(events).toEqual(["created p", "started p"]);
    await pass(limits.unclaimed);
    await quiet();
    expect(pods.sandbox(id).state, "claimed, it is not reaped").toBe("ready");
  });

  test("without a retry the pod is removed after a while, without any event", async () => {
    const pods = await node().start();
    const events = recordEvents(pods);
    (await abandoned(pods)).release();
    await startIsOver();
    await quiet();
    await pass(limits.unclaimed);
    await until("it is removed", async () => (await node().records()).length === 0);
    await expectNothingLeft();
    expect(events).toEqual([]);
  });

  test("a client that creates a container in the unclaimed pod has claimed it", async () => {
    const pods = await node().start();
    (await abandoned(pods)).release();
    await startIsOver();
    await quiet();
    const [id = ""] = await node().podDirectories();
    await makeContainer(pods, id);
    await pass(limits.unclaimed);
    await quiet();
    expect(pods.sandboxes(everything)).toMatchObject([{ id, state: "ready" }]);
  });

  test("a retry while the unclaimed pod is being removed gets a new pod", async () => {
    const pods = await node().start();
    (await abandoned(pods)).release();
    await startIsOver();
    await quiet();
    const detaching = node().script.hold("network detach");
    await pass(limits.unclaimed);
    await detaching.arrived;
    const id = await runPod(pods);
    detaching.release();
    await until("the first one is removed", async () => (await node().records()).length === 1);
    expect(pods.sandboxes(everything).map((one) => one.id)).toEqual([id]);
  });

  test("without a retry, and when its removal fails: the pod is listed, and removed soon after", async () => {
    const pods = await node().start();
    (await abandoned(pods)).release();
    await startIsOver();
    await quiet();
    node().script.fail("host removeTree", new Error("EBUSY"));
    await pass(limits.unclaimed);
    await until("it is listed", () => pods.sandboxes(everything).length === 1);
    await quiet();
    await pass(1_000);
    await until("it is removed", () => pods.sandboxes(everything).length === 0);
    await quiet();
    await expectNothingLeft();
  });

  test("the start fails: nothing is left, and the retry starts again", async () => {
    const pods = await node().start();
    (await abandoned(pods)).fail(new Error("not today"));
    await until("it is undone", async () => (await node().records()).length === 0);
    await runPod(pods);
    expect(node().script.count("monitor spawn")).toBe(2);
  });

  test("a retry that joined a start which then fails gets the reason", async () => {
    const pods = await node().start();
    const attaching = await abandoned(pods);
    const retry = runPod(pods);
    attaching.fail(new Error("not today"));
    await expect(retry).rejects.toThrow("not today");
  });
});

test("a removal during the start waits for it, so that the caller of the start gets a pod that existed", async () => {
  const pods = await node().start();
  const attaching = node().script.hold("network attach");
  const running = runPod(pods);
  await attaching.arrived;
  const [id = ""] = await node().podDirectories();
  const removing = pods.removeSandbox(id, never);
  await quiet();
  expect(node().script.calls()).not.toContain("network detach");
  attaching.release();
  expect(await running).toBe(id);
  await removing;
  await expectNothingLeft();
  expect(pods.sandboxes(everything)).toEqual([]);
});

describe("a name in use", () => {
  test("a ready pod with the same name is returned; a stopped one blocks the name until it is removed", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    expect(await runPod(pods)).toBe(id);
    await pods.stopSandbox(id, never);
    await expect(runPod(pods)).rejects.toMatchObject({ name: "sandboxExists", code: "AlreadyExists" });
    await pods.removeSandbox(id, never);
    expect(await runPod(pods)).not.toBe(id);
  });

  test("a pod that is being stopped blocks the name too", async () => {
    const pods = await node().start();
    const id = await runPod(pods);
    const detaching = node().script.hold("network detach");
    const stopping = pods.stopSandbox(id, never);
    await detaching.arrived;
    await expect(runPod(pods)).rejects.toMatchObject({ name: "sandboxExists" });
    detaching.release();
    await stopping;
  });

  test("a retry while the last record is being written waits for it, and never gets a pod that is rolled back", async () => {
    const pods = await node().start();
    const attaching = node().script.hold("network attach");
    const first = runPod(pods);
    first.catch(() => undefined);
    await attaching.arrived;
    const [id = ""] = await node().podDirectories();
    // The containers' files have been written too: only the network is missing until it is ready.
    await quiet();
    await breakDisk();
    attaching.release();
    // Writing a file takes a turn of the event loop, so this is still the state when the retry runs.
    for (let hop = 0; hop < 1_000 && pods.sandbox(id).state !== "ready"; hop += 1) await Promise.resolve();
    expect(pods.sandbox(id).state).toBe("ready");
    const retry = runPod(pods);
    await expect(retry).rejects.toThrow("ENOTDIR");
    await expect(first).rejects.toThrow("ENOTDIR");
    expect(node().network.leases()).toEqual([]);
  });

  test("pods with other names, attempts or namespaces are separate pods", async () => {
    const pods = await node().start();
    const config = sandboxConfig("p");
    const metadata = [{}, { attempt: 1 }, { namespace: "other" }, { uid: "other" }, { name: "q" }];
    const ids = await Promise.all(
      metadata.map((one) => pods.runSandbox({ ...config, metadata: { ...config.metadata, ...one } }, "", never)),
    );
    expect(new Set(ids).size).toBe(5);
    expect(new Set(node().network.attached.values()).size).toBe(5);
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
  await expectNothingLeft();
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
  await expectNothingLeft();
});

test("an unknown handler is refused by name", async () => {
  const pods = await node().start();
  await expect(pods.runSandbox(sandboxConfig("p"), "kata", never)).rejects.toMatchObject({ name: "handlerUnknown" });
});

/** Makes all further record writes fail, as on a full disk. */
async function breakDisk(): Promise<void> {
  await rm(node().stateDirectory, { recursive: true });
  await writeFile(node().stateDirectory, "");
}
