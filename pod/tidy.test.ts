// Unfinished work of a previous daemon is finished once this one serves: a few pods at a time, despite hangs and
// failures.

import { access, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { limits } from "./environment.ts";
import { holdTime, pass, quiet, until, within } from "./testing/clock.ts";
import { never, runContainer, runPod, useNode } from "./testing/node.ts";
import { expectTidy, rewriteLife } from "./testing/truth.ts";

const everything = { labels: new Map() };
const node = useNode();
holdTime();

/** How long a daemon may take until it serves, regardless of what it finds. */
const servedMs = 1_100;

test("hanging DELs do not delay the socket, run for four pods at a time, and leave the pods' names free", async () => {
  const first = await node().start();
  const names = ["a", "b", "c", "d", "e", "f"];
  const ids = await Promise.all(names.map((name) => runPod(first, name)));
  await node().kill();
  for (const id of ids) await rewriteLife(node(), id, "starting");
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
  for (const id of ids) expect(() => pods.sandbox(id)).toThrow("does not exist");
  await expectTidy(node(), pods);
});

test("pods without monitors, as after a reboot: their processes are killed although DELs hang", async () => {
  const first = await node().start();
  const ids = await Promise.all(["a", "b", "c", "d", "e", "f"].map((name) => runPod(first, name)));
  await node().kill();
  for (const id of ids) {
    node().monitor(id).dies();
    // Simulates the pod's cgroup with processes that outlived their monitor.
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
  await expectTidy(node(), pods);
});

test("an interrupted removal of a container is finished, and the container is no longer listed", async () => {
  const first = await node().start();
  const id = await runPod(first);
  const c = await runContainer(first, id);
  const deleting = node().script.hold("monitor delete");
  first.removeContainer(c, never).catch(() => undefined);
  await deleting.arrived;
  const pods = await node().restart();
  expect(pods.container(c).phase.state).toBe("exited");
  await pods.tidy();
  expect(pods.containers(everything)).toEqual([]);
  expect(pods.sandbox(id).state).toBe("ready");
  await expectTidy(node(), pods);
});

test("an interrupted stop of a pod whose monitor runs keeps the exits of its containers", async () => {
  const first = await node().start();
  const id = await runPod(first);
  const c = await runContainer(first, id);
  await node().kill();
  await rewriteLife(node(), id, "stopping");
  const pods = await node().start();
  await pods.tidy();
  expect(pods.container(c).phase).toMatchObject({ state: "exited", exitCode: 137, reason: "Error" });
});

test("a pod that cannot be cleaned up is listed as not ready with the reason, and does not block other pods", async () => {
  const first = await node().start();
  const [a, b] = [await runPod(first, "a"), await runPod(first, "b")];
  await node().kill();
  for (const id of [a, b]) await rewriteLife(node(), id, "starting");
  node().script.fail("host removeTree", new Error("EBUSY"));
  const pods = await node().start();
  await pods.tidy();
  const [left] = pods.sandboxes(everything);
  expect(pods.sandboxes(everything)).toHaveLength(1);
  expect(left).toMatchObject({ state: "not-ready", leftovers: ["remove the pod directory: EBUSY"] });
  await pods.removeSandbox(left?.id ?? "", never);
  await expectTidy(node(), pods);
});

test("a failed start with a pending network teardown is listed by the next daemon too, until it is rolled back", async () => {
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
  await expectTidy(node(), last);
  expect(last.sandboxes(everything)).toEqual([]);
});

test("a failed start whose record cannot be removed is listed until it can be", async () => {
  const id = await runPod(await node().start());
  await node().kill();
  await rewriteLife(node(), id, "starting");
  const pods = await node().start();
  const record = join(node().stateDirectory, `${id}.json`);
  // A directory cannot be removed like a file.
  await rm(record);
  await mkdir(record);
  await pods.tidy();
  expect(pods.sandboxes(everything).map((one) => one.id)).toEqual([id]);
  await rm(record, { recursive: true });
  await pass(1_000);
  await until("it is forgotten", () => pods.sandboxes(everything).length === 0);
  await quiet();
  await expectTidy(node(), pods);
});

test("orphaned directories, bundles, layers and records are removed, the network before the monitor", async () => {
  const first = await node().start();
  const id = await runPod(first);
  const c = await runContainer(first, id);
  const kept = await runPod(first, "kept");
  await node().kill();
  await mkdir(join(node().podDirectory(kept), "containers", "f".repeat(64)));
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
  await expectTidy(node(), pods);
  expect(node().images.layers.has(c)).toBe(false);
});

test.each([
  ["in a cgroup of its own, which is removed", { cgroup: "/pods/p", own_cgroup: true }, []],
  ["in a kubelet's cgroup, which stays", { cgroup: "/pods/p", own_cgroup: false }, ["p"]],
  ["in a scope, whose directory systemd removes", { cgroup: "", own_cgroup: false, scope: "/pods/p" }, ["p"]],
])("an orphaned pod %s", async (_, written, left) => {
  const [id, c] = ["e".repeat(64), "f".repeat(64)];
  await mkdir(join(node().podDirectory(id), "containers", c), { recursive: true });
  const netns = join(node().directory, "pin");
  await writeFile(netns, "");
  await writeFile(join(node().podDirectory(id), "sandbox.json"), JSON.stringify({ ...written, netns }));
  const cgroup = join(node().directory, "cgroup/pods/p");
  await mkdir(join(cgroup, c), { recursive: true });
  const pods = await node().start();
  await pods.tidy();
  expect(await node().podDirectories()).toEqual([]);
  expect(node().script.calls()).toContain("host unmount");
  await expect(access(netns)).rejects.toThrow("ENOENT");
  expect(await readdir(join(cgroup, ".."), { recursive: true })).toEqual(left);
});

test("resources that a request creates between start and cleanup do not count as orphaned", async () => {
  await runPod(await node().start(), "before");
  const pods = await node().restart();
  const id = await runPod(pods);
  await runContainer(pods, id);
  await pods.tidy();
  await expectTidy(node(), pods);
  expect(pods.sandboxes({ ...everything, state: "ready" })).toHaveLength(2);
});

test("a start that a request begins before the cleanup does not count as interrupted: its pod is created", async () => {
  const pods = await node().start();
  const attaching = node().script.hold("network attach");
  const running = runPod(pods);
  await attaching.arrived;
  await pods.tidy();
  expect(node().script.calls()).not.toContain("network detach");
  attaching.release();
  expect(pods.sandbox(await running).state).toBe("ready");
  await expectTidy(node(), pods);
});

test("a request for a pod that is being cleaned up waits for its turn, and finds it done", async () => {
  const id = await runPod(await node().start());
  await node().kill();
  await rewriteLife(node(), id, "stopping");
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

test("network garbage collection runs last, and spares existing pods", async () => {
  const first = await node().start();
  const [a, b] = [await runPod(first, "a"), await runPod(first, "b")];
  await first.stopSandbox(b, never);
  const pods = await node().restart();
  await pods.tidy();
  expect(node().script.calls().at(-1)).toBe("network collectGarbage");
  expect([...node().network.spared].toSorted()).toEqual([a, b].toSorted());
});

test("a daemon that is shut down during cleanup starts no further steps", async () => {
  const first = await node().start();
  const ids = await Promise.all(["a", "b", "c", "d", "e", "f"].map((name) => runPod(first, name)));
  await node().kill();
  for (const id of ids) await rewriteLife(node(), id, "starting");
  const orphan = "f".repeat(64);
  await mkdir(node().podDirectory(orphan));
  const hanging = ids.map(() => node().script.hold("network detach"));
  const pods = await node().start();
  const tidying = pods.tidy();
  await until("the first DELs hang", () => node().script.count("network detach") === 4);
  await pods.close();
  for (const held of hanging) held.release();
  await tidying;
  expect(node().script.count("network detach")).toBe(4);
  expect(node().script.calls()).not.toContain("network collectGarbage");
  expect(await node().podDirectories()).toContain(orphan);
});
