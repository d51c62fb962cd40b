// RemoveContainer: recorded before it removes anything; when a step fails, the next call finishes it.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { holdTime, quiet } from "./testing/clock.ts";
import { noResources } from "./testing/configs.ts";
import { makeContainer, never, recordEvents, runContainer, runPod, useNode } from "./testing/node.ts";

const everything = { labels: new Map() };
const node = useNode();
holdTime();

async function bundles(sandboxId: string): Promise<string[]> {
  return await readdir(join(node().podDirectory(sandboxId), "containers"));
}

test("a removal kills the container, is recorded before anything is removed, and removes the record last", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const c = await runContainer(pods, id);
  const deleting = node().script.hold("monitor delete");
  const removal = pods.removeContainer(c, never);
  await deleting.arrived;
  expect(await node().record(c)).toMatchObject({ removing: true, phase: { state: "exited", exitCode: 137 } });
  deleting.release();
  await removal;
  expect(node().script.calls(c)).toEqual([
    "images prepareSnapshot",
    "monitor start",
    "monitor stop",
    "monitor delete",
    "images removeSnapshot",
  ]);
  expect(await bundles(id)).toEqual([]);
  expect(await node().record(c)).toBeUndefined();
  expect(pods.containersOf(id)).toEqual([]);
  await pods.removeContainer(c, never);
});

test("two concurrent removals count as one", async () => {
  const pods = await node().start();
  const events = recordEvents(pods);
  const c = await makeContainer(pods, await runPod(pods));
  await Promise.all([pods.removeContainer(c, never), pods.removeContainer(c, never)]);
  await quiet();
  expect(events.filter((event) => event.startsWith("deleted"))).toEqual([`deleted ${c.slice(0, 12)}`]);
  expect(node().script.count("monitor delete", c)).toBe(1);
});

test.each(["removeContainer", "removeSandbox"] as const)(
  "a start or an update that waited for its turn behind %s finds no container",
  async (removal) => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await makeContainer(pods, id);
    const removing = node().script.hold("images removeSnapshot");
    const removed = removal === "removeSandbox" ? pods.removeSandbox(id, never) : pods.removeContainer(c, never);
    await removing.arrived;
    const late = [pods.startContainer(c, never), pods.updateContainerResources(c, noResources, never)];
    const outcomes = Promise.allSettled(late);
    removing.release();
    await removed;
    const reason = { name: "containerNotFound", code: "NotFound" };
    expect(await outcomes).toMatchObject([{ reason }, { reason }]);
    expect(node().script.calls(c)).not.toContain("monitor start");
    expect(await node().record(c)).toBeUndefined();
  },
);

test("a removal succeeds for a container that never ran, and for one that the monitor does not know", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  await pods.removeContainer(await makeContainer(pods, id), never);
  const c = await runContainer(pods, id, "d");
  node().monitor(id).forgets(c);
  await pods.removeContainer(c, never);
  expect(pods.containers(everything)).toEqual([]);
});

test.each(["monitor delete", "host removeTree", "images removeSnapshot"])(
  "a removal that fails at %s leaves the container exited and unable to start; the next one finishes it",
  async (step) => {
    const pods = await node().start();
    const id = await runPod(pods);
    const c = await runContainer(pods, id);
    node().script.fail(step, new Error("EBUSY"));
    await expect(pods.removeContainer(c, never)).rejects.toThrow("EBUSY");
    expect(pods.container(c).phase.state).toBe("exited");
    await pods.removeContainer(c, never);
    expect(pods.containers(everything)).toEqual([]);
    expect(node().images.layers.size).toBe(0);
  },
);

test("a failed removal of a created container prevents it from starting", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const c = await makeContainer(pods, id);
  node().script.fail("images removeSnapshot", new Error("EBUSY"));
  await expect(pods.removeContainer(c, never)).rejects.toThrow("EBUSY");
  await expect(pods.startContainer(c, never)).rejects.toMatchObject({ code: "FailedPrecondition" });
  expect(node().monitor(id).starts).toEqual([]);
});

test("a removal during a start waits for it and removes everything that it created", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const c = await makeContainer(pods, id);
  const start = node().script.hold("monitor start");
  const starting = pods.startContainer(c, never);
  await start.arrived;
  const removal = pods.removeContainer(c, never);
  start.release();
  await starting;
  await removal;
  expect(node().monitor(id).running).toEqual([]);
  expect(pods.containers(everything)).toEqual([]);
});
