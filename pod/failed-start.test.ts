// Remains of failed starts are removed without a client: once cni/ is done, or once the obstacle is gone.

import { expect, test, vi } from "vitest";
import type { NodePods } from "./pods.ts";
import { holdTime, pass, quiet, until } from "./testing/clock.ts";
import { never, runPod, useNode } from "./testing/node.ts";
import { expectTidy } from "./testing/truth.ts";

const everything = { labels: new Map() };
const longestMs = 300_000;
const dayMs = 288 * longestMs;
const node = useNode();
holdTime();

async function failedStart(pods: NodePods): Promise<void> {
  node().script.fail("network attach", new Error("ADD of bridge: not today"));
  await expect(runPod(pods)).rejects.toThrow("not today");
  expect(pods.sandboxes(everything)).toMatchObject([{ state: "not-ready" }]);
}

/** An attempt reads files, which takes real time. */
async function passInSteps(milliseconds: number): Promise<void> {
  for (let passed = 0; passed < milliseconds; passed += longestMs) {
    await pass(longestMs);
    await quiet();
  }
}

async function expectGone(pods: NodePods): Promise<void> {
  await until("it is forgotten", () => pods.sandboxes(everything).length === 0);
  await quiet();
  await expectTidy(node(), pods);
}

test("a failed start with a pending DEL waits for cni/ instead of running its own DEL, and is removed soon after", async () => {
  const pods = await node().start();
  node().network.failing = "DEL of bridge: not today";
  await failedStart(pods);
  const tried = node().script.count("network detach");
  await pass(60_000);
  await quiet();
  expect(node().script.count("network detach")).toBe(tried);
  expect(pods.sandboxes(everything)).toHaveLength(1);

  node().network.recovers();
  await pass(64_000);
  await expectGone(pods);
});

test("a failed start that a previous daemon left is removed too", async () => {
  node().network.failing = "DEL of bridge: not today";
  await failedStart(await node().start());
  const pods = await node().restart();
  await pods.tidy();
  expect(pods.sandboxes(everything)).toHaveLength(1);
  node().network.recovers();
  await pass(1_000);
  await expectGone(pods);
});

test("a failed start whose DEL was given up is removed, and reported by keelson check", async () => {
  const pods = await node().start();
  node().network.failing = "DEL of bridge: never";
  await failedStart(pods);
  node().network.givesUp();
  await pass(1_000);
  await until("it is forgotten", () => pods.sandboxes(everything).length === 0);
  await quiet();
  expect(await node().records()).toEqual([]);
  expect(node().network.leases()).toMatchObject([{ state: "given-up" }]);
});

test("a failed start whose directory is busy is retried with backoff, for one day", async () => {
  const pods = await node().start();
  for (let tries = 0; tries < 1_000; tries += 1) node().script.fail("host removeTree", new Error("EBUSY"));
  await failedStart(pods);
  const tries = () => node().script.count("host removeTree");
  const first = tries();
  await pass(1_000);
  await until("a second try", () => tries() === first + 1);
  await quiet();
  await pass(1_999);
  await quiet();
  expect(tries()).toBe(first + 1);
  await pass(1);
  await until("a third try", () => tries() === first + 2);
  expect(pods.sandboxes(everything)).toMatchObject([{ leftovers: ["remove the pod directory: EBUSY"] }]);

  await passInSteps(2 * dayMs);
  const inADay = tries();
  expect(inADay).toBeGreaterThan(250);
  expect(inADay).toBeLessThan(310);
  await passInSteps(dayMs);
  expect(tries()).toBe(inADay);
});

test("a removal by a client ends the retries within minutes, even if its DEL is still pending", async () => {
  const pods = await node().start();
  node().network.failing = "DEL of bridge: not today";
  const timers = vi.getTimerCount();
  await failedStart(pods);
  expect(vi.getTimerCount()).toBe(timers + 1);
  await pods.removeSandbox(pods.sandboxes(everything)[0]?.id ?? "", never);
  expect(node().network.leases()).toMatchObject([{ state: "detach-failed" }]);
  await passInSteps(longestMs);
  expect(vi.getTimerCount()).toBe(timers);
});

test("a removal by a client ends the retries, and so does the daemon's shutdown", async () => {
  const pods = await node().start();
  node().script.fail("host removeTree", new Error("EBUSY"));
  await failedStart(pods);
  await pods.removeSandbox(pods.sandboxes(everything)[0]?.id ?? "", never);
  node().script.fail("host removeTree", new Error("EBUSY"));
  await failedStart(pods);
  await pods.close();
  const calls = node().script.calls().length;
  await pass(dayMs);
  await quiet();
  expect(node().script.calls()).toHaveLength(calls);
});
