// The order in which a kubelet sorts a pod's sandboxes and containers, even when the clock is set back.

import { expect, test } from "vitest";
import type { NodePods } from "./pods.ts";
import { containerConfig, sandboxConfig } from "./testing/configs.ts";
import { never, runPod, useNode } from "./testing/node.ts";
import type { ContainerId, SandboxId } from "./types.ts";

const node = useNode();
const hour = 3_600_000_000_000n;
const everything = { labels: new Map() };

interface Listed {
  readonly createdAt: bigint;
  readonly config: { readonly metadata: { readonly attempt: number } };
}

/** Sorted like in the kubelet: latest creation first. */
function attempts(listed: readonly Listed[]): number[] {
  return listed
    .toSorted((one, other) => (one.createdAt < other.createdAt ? 1 : -1))
    .map(({ config }) => config.metadata.attempt);
}

async function runAttempt(pods: NodePods, attempt: number): Promise<SandboxId> {
  const config = sandboxConfig("p");
  return await pods.runSandbox({ ...config, metadata: { ...config.metadata, attempt } }, "", never);
}

async function startAttempt(pods: NodePods, sandbox: SandboxId, attempt: number): Promise<ContainerId> {
  const config = { ...containerConfig("c", "img", ["/bin/sleep"]), metadata: { name: "c", attempt } };
  const id = await pods.createContainer(sandbox, config, never);
  await pods.startContainer(id, never);
  return id;
}

test("a pod's next sandbox is its newest although the clock was set back, also after a daemon restart", async () => {
  let pods = await node().start();
  await pods.stopSandbox(await runAttempt(pods, 0), never);
  node().setClockBack(hour);
  await pods.stopSandbox(await runAttempt(pods, 1), never);
  pods = await node().restart();
  node().setClockBack(hour);
  await runAttempt(pods, 2);
  expect(attempts(pods.sandboxes(everything))).toEqual([2, 1, 0]);
});

test("a container's next attempt is its newest although the clock was set back, in the same sandbox and the next one", async () => {
  const pods = await node().start();
  const first = await runAttempt(pods, 0);
  await pods.stopContainer(await startAttempt(pods, first, 0), 0n, never);
  node().setClockBack(hour);
  await startAttempt(pods, first, 1);
  await pods.stopSandbox(first, never);
  node().setClockBack(hour);
  await startAttempt(pods, await runAttempt(pods, 1), 2);
  expect(attempts(pods.containers(everything))).toEqual([2, 1, 0]);
});

test("the first attempt gets the clock's time", async () => {
  const pods = await node().start();
  const before = pods.sandbox(await runPod(pods, "q")).createdAt;
  node().setClockBack(hour);
  const id = await runAttempt(pods, 0);
  const c = await startAttempt(pods, id, 0);
  for (const { createdAt } of [pods.sandbox(id), pods.container(c)]) expect(createdAt).toBeLessThan(before);
});
