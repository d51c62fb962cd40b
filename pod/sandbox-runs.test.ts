// RunPodSandbox again: callers that give up, retries that join, a removal during the start, names in use.

import { describe, expect, test } from "vitest";
import { limits } from "./environment.ts";
import type { NodePods } from "./pods.ts";
import { holdTime, pass, quiet, until } from "./testing/clock.ts";
import { sandboxConfig } from "./testing/configs.ts";
import { breakDisk, makeContainer, never, recordEvents, runPod, useNode } from "./testing/node.ts";
import { expectNothingLeft } from "./testing/truth.ts";

const everything = { labels: new Map() };
const node = useNode();
holdTime();

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
    await expectNothingLeft(node());
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
    await expectNothingLeft(node());
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
  await expectNothingLeft(node());
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
    await breakDisk(node());
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
