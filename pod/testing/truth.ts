// Checks that a daemon reports its pods truthfully, and that nothing else is left on the node.

import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { expect } from "vitest";
import type { NodePods } from "../pods.ts";
import { Records } from "../records.ts";
import type { SandboxLife } from "../sandbox.ts";
import { never, type ScriptedNode } from "./node.ts";

const everything = { labels: new Map() };

/** Sets the record as if the previous daemon had been killed in that state of the pod. */
export async function rewriteLife(node: ScriptedNode, sandboxId: string, life: SandboxLife): Promise<void> {
  const record = await node.record(sandboxId);
  if (record?.kind !== "sandbox") throw new Error(`no record of ${sandboxId}`);
  await (await Records.open(node.stateDirectory)).save({ ...record, life });
}

/** Checks that everything reported about the pods is true. */
export function expectTrue(node: ScriptedNode, pods: NodePods): void {
  const sandboxes = pods.sandboxes(everything);
  for (const { id, state, ips, leftovers } of sandboxes) {
    expect(leftovers).toEqual([]);
    if (state === "ready") expect([node.network.attached.get(id)]).toEqual(ips);
    else expect(ips).toEqual([]);
  }
  const addresses = sandboxes.flatMap(({ ips }) => ips);
  expect(new Set(addresses).size).toBe(addresses.length);
  for (const { id, sandboxId, phase } of pods.containers(everything)) {
    expect([id, phase.state === "running"]).toEqual([id, node.monitor(sandboxId).running.includes(id)]);
  }
}

/** Also checks that nothing on the node is orphaned. */
export async function expectTidy(node: ScriptedNode, pods: NodePods): Promise<void> {
  expectTrue(node, pods);
  const sandboxes = pods.sandboxes(everything).map(({ id }) => String(id));
  const ready = pods.sandboxes({ ...everything, state: "ready" }).map(({ id }) => String(id));
  const containers = pods.containers(everything).map(({ id }) => String(id));
  expect((await node.podDirectories()).filter((id) => !sandboxes.includes(id))).toEqual([]);
  const bundles = (await readdir(join(node.directory, "run/pods"), { recursive: true })).filter((path) =>
    /^[^/]+\/containers\/[^/]+$/.test(path),
  );
  expect(bundles.filter((path) => !containers.includes(basename(path)))).toEqual([]);
  const listed = pods.sandboxes(everything).flatMap(({ id }) => pods.containersOf(id).map((one) => String(one.id)));
  expect(listed.toSorted()).toEqual(containers.toSorted());
  expect([...node.images.layers].filter((id) => !containers.includes(id))).toEqual([]);
  expect((await node.records()).map(({ id }) => String(id)).toSorted()).toEqual(
    [...sandboxes, ...containers].toSorted(),
  );
  expect(
    node.network
      .leases()
      .map(({ sandboxId }) => sandboxId)
      .toSorted(),
  ).toEqual(ready.toSorted());
  expect(node.monitors.filter(({ isGone }) => !isGone)).toHaveLength(ready.length);
}

export async function expectRemovable(node: ScriptedNode, pods: NodePods): Promise<void> {
  for (const { id } of pods.sandboxes(everything)) await pods.removeSandbox(id, never);
  expect(pods.sandboxes(everything)).toEqual([]);
  await expectTidy(node, pods);
}

/** Checks that nothing of a pod is left on the node. */
export async function expectNothingLeft(node: ScriptedNode): Promise<void> {
  expect(await node.podDirectories()).toEqual([]);
  expect(await node.records()).toEqual([]);
  expect(node.network.leases()).toEqual([]);
  expect(node.monitors.filter((monitor) => !monitor.isGone)).toEqual([]);
}
