// A daemon starts with the state of an older one. fixtures/state-1 and state-2 are complete state directories that
// daemons of 1bafc12 (records of version 1) and b2eedac (version 2) left when they were killed in the same situation:
// pod "serving" with a running, a failed and a created container, pod "over" stopped, pod "ending" in the DEL of its
// stop and pod "beginning" in the ADD of its start. They are unmodified; their paths are those of a test's node.

import { cp, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import type { NodePods } from "./pods.ts";
import { Records } from "./records.ts";
import { holdTime, until } from "./testing/clock.ts";
import { never, runContainer, useNode } from "./testing/node.ts";

const everything = { labels: new Map() };
const node = useNode();
holdTime();

/** Records by the name of their pod or container. */
let ids: Map<string, string>;

async function stand(state: string): Promise<void> {
  await cp(join(import.meta.dirname, "testing/fixtures", state), node().stateDirectory, { recursive: true });
  const { records, damaged } = await (await Records.open(node().stateDirectory)).load();
  expect(damaged).toEqual([]);
  ids = new Map(records.map(({ id, config }) => [config.metadata.name, id]));
  for (const record of records) {
    if (record.kind === "container") {
      node().images.layers.add(record.id);
      continue;
    }
    if (record.life === "stopped") continue;
    node().addMonitor(record.id);
    for (const ip of record.ips) node().network.hasAttached(record.id, ip);
  }
  const running = records.find(({ id }) => id === ids.get("running"));
  if (running?.kind === "container" && running.phase.state === "running")
    node().monitor(id("serving")).hasRun(running.id, running.phase.pid);
}

function id(name: string): string {
  const found = ids.get(name);
  if (found === undefined) throw new Error(`${name} is not on record`);
  return found;
}

function expectServing(pods: NodePods): void {
  expect(pods.sandbox(id("serving"))).toMatchObject({
    state: "ready",
    runtimeHandler: "native",
    ips: [expect.stringMatching(/^10\./)],
    config: {
      metadata: { name: "serving", namespace: "test", uid: "uid-serving", attempt: 0 },
      labels: new Map([["app", "serving"]]),
      annotations: new Map([["example.com/note", "kept"]]),
      hostname: "serving",
    },
  });
  expect(pods.sandbox(id("over"))).toMatchObject({ state: "not-ready", ips: [] });
  expect(pods.container(id("running")).phase.state).toBe("running");
  expect(pods.container(id("failed")).phase).toMatchObject({ state: "exited", exitCode: 3, reason: "Error" });
  expect(pods.container(id("ended")).phase).toMatchObject({ state: "exited", exitCode: 137 });
  const created = pods.container(id("created"));
  expect(created).toMatchObject({
    phase: { state: "created" },
    config: { metadata: { name: "created", attempt: 2 }, envs: [{ name: "A", value: Buffer.alloc(0) }] },
    resources: { memoryLimit: 67_108_864n, cpuQuota: 50_000n, cpuPeriod: 100_000n },
  });
}

/** As if this daemon had created everything. */
async function expectUsable(pods: NodePods): Promise<void> {
  const other = await runContainer(pods, id("serving"), "other");
  await pods.startContainer(id("created"), never);
  expect(node().monitor(id("serving")).running.toSorted()).toEqual([id("running"), id("created"), other].toSorted());
  await pods.execSync(id("running"), ["true"], 0n, { signal: never, answered: Promise.resolve() });
  await pods.stopContainer(id("running"), 0n, never);
  await pods.removeContainer(id("failed"), never);
  for (const { id: sandbox } of pods.sandboxes(everything)) await pods.removeSandbox(sandbox, never);
  expect(await readdir(node().stateDirectory)).toEqual([]);
  expect(node().network.leases()).toEqual([]);
  expect(node().images.layers.size).toBe(0);
}

describe("of version 2", () => {
  beforeEach(async () => await stand("state-2"));

  test("existing pods are kept, unfinished work is finished, and everything can be used and removed", async () => {
    const pods = await node().start();
    expectServing(pods);
    expect(pods.sandbox(id("ending"))).toMatchObject({ state: "not-ready", ips: [] });
    expect(pods.sandboxes(everything).map(({ config }) => config.metadata.name)).not.toContain("beginning");
    await pods.tidy();
    expect(node().monitor(id("ending")).isGone).toBe(true);
    expect(await node().record(id("ending"))).toMatchObject({ life: "stopped" });
    expect(node().monitor(id("beginning")).isGone).toBe(true);
    expect(await node().record(id("beginning"))).toBeUndefined();
    await expectUsable(pods);
  });
});

describe("of version 1", () => {
  beforeEach(async () => await stand("state-1"));

  test("pods keep running and get the files that their monitors do not create; one whose DEL was done is not ready", async () => {
    const files = join(node().podDirectory(id("serving")), "files");
    await rm(files, { recursive: true });
    // It is recorded as ready: version 1 recorded nothing before a DEL.
    node().network.loses(id("ending"));
    const pods = await node().start();
    expectServing(pods);
    expect(pods.sandbox(id("ending"))).toMatchObject({ state: "not-ready", ips: [] });
    expect(await readFile(join(files, "hostname"), "utf8")).toBe("serving\n");
    await pods.tidy();
    await until("the half-stopped pod is stopped", () => node().monitor(id("ending")).isGone);
    await expectUsable(pods);
  });

  test("the next daemon reads the same records", async () => {
    await node().start();
    const again = await node().restart();
    expectServing(again);
  });
});
