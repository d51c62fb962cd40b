// Which of Keelson's plugins share a process, and that each still gets its own turn when they fail.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";
import { watchWork } from "../native/index.ts";
import { makerOf } from "./maker.ts";
import { addressResult, eventually, type Lab, openLab } from "./testing/lab.ts";

const never = new AbortController().signal;
const portmap = { type: "portmap", capabilities: { portMappings: true } };
const portMappings = [{ hostPort: 47_123, containerPort: 80, protocol: "tcp", hostIp: "" }] as const;
let lab: Lab;
let ran: string[];
let endWatch: () => void;

beforeEach(async () => {
  lab = await openLab();
  ran = [];
  endWatch = watchWork(
    () => undefined,
    ({ kind, name }, outcome) => {
      if (kind === "plugin") ran.push(outcome === "OK" ? name : `${name}: ${outcome}`);
    },
  );
});
afterEach(async () => {
  endWatch();
  await lab[Symbol.asyncDispose]();
});

/** Installs copies of the plugins, as a package does. */
async function installOwn(...types: readonly string[]): Promise<void> {
  for (const type of types) {
    const file = join(lab.binDir, type);
    await copyFile(join(import.meta.dirname, "../native/build/cni", type), file);
    await eventually(`${type} is known`, () => makerOf(file) === "keelson");
  }
}

async function openOwn(limits: object = {}) {
  await installOwn("bridge", "portmap", "keelson-chain");
  await lab.writeConfig("10-a.conflist", lab.bridgeNetwork([portmap]));
  return await lab.open({ limits });
}

test("consecutive Keelson plugins run in one process for ADD and DEL, and each does its work", async () => {
  const network = await openOwn();
  const pod = await lab.pod({ portMappings });
  const { ips } = await network.attach(pod, never);
  expect(await lab.reserved()).toEqual(ips);
  expect((await lab.traces()).join("\n")).toContain("dport 47123 dnat");
  await network.detach(pod.sandboxId);
  expect(ran).toEqual(["bridge+portmap ADD", "bridge+portmap DEL"]);
  expect(await lab.reserved()).toEqual([]);
  expect(await lab.traces()).toEqual([]);
});

test("another plugin between them, or a third-party one with the same name, runs in its own process", async () => {
  await installOwn("bridge", "portmap", "keelson-chain");
  await lab.script("other", `[ $CNI_COMMAND = ADD ] && echo '${addressResult("10.1.1.1/24")}'; exit 0`);
  await lab.writeConfig("10-a.conflist", lab.bridgeNetwork([{ type: "other" }, portmap]));
  const network = await lab.open();
  const pod = await lab.pod();
  await network.attach(pod, never);
  await network.detach(pod.sandboxId);
  expect(ran.splice(0)).toEqual(
    ["bridge", "other", "portmap"]
      .map((type) => `${type} ADD`)
      .concat(["portmap", "other", "bridge"].map((type) => `${type} DEL`)),
  );

  await lab.script("portmap", `[ $CNI_COMMAND = ADD ] && echo '${addressResult("10.1.1.1/24")}'; exit 0`);
  await lab.writeConfig("10-a.conflist", lab.bridgeNetwork([portmap]));
  const replaced = await lab.open({ stateDir: join(lab.stateDir, "replaced") });
  const next = await lab.pod();
  await replaced.attach(next, never);
  await replaced.detach(next.sandboxId);
  expect(ran).toEqual(["bridge ADD", "portmap ADD", "portmap DEL", "bridge DEL"]);
});

test("without keelson-chain each plugin runs in its own process", async () => {
  await installOwn("bridge", "portmap");
  await lab.writeConfig("10-a.conflist", lab.bridgeNetwork([portmap]));
  const network = await lab.open();
  const pod = await lab.pod();
  await network.attach(pod, never);
  await network.detach(pod.sandboxId);
  expect(ran).toEqual(["bridge ADD", "portmap ADD", "portmap DEL", "bridge DEL"]);
});

test("a failed ADD names the plugin that failed, and all of them are undone", async () => {
  await installOwn("bridge", "portmap", "keelson-chain");
  await lab.writeConfig("10-a.conflist", lab.bridgeNetwork([{ ...portmap, conditionsV4: ["what"] }]));
  const network = await lab.open();
  await expect(network.attach(await lab.pod({ portMappings }), never)).rejects.toThrow(
    /plugin bridge\+portmap failed ADD with code 2: portmap: conditionsV4/,
  );
  expect(ran).toEqual(["bridge+portmap ADD: Internal", "bridge+portmap DEL"]);
  expect(network.leases()).toEqual([]);
  expect(await lab.reserved()).toEqual([]);
  expect(await lab.traces()).toEqual([]);
});

test("a failed DEL is repeated for each plugin separately: only the one that fails is retried", async () => {
  const network = await openOwn({ firstRetryMs: 300 });
  const pod = await lab.pod({ portMappings });
  await network.attach(pod, never);
  await rename(lab.dataDir, `${lab.dataDir}-away`);
  await writeFile(lab.dataDir, "");
  await network.detach(pod.sandboxId);
  expect(ran.slice(1)).toEqual(["bridge+portmap DEL: Internal", "portmap DEL", "bridge DEL: Internal"]);
  expect(network.leases()).toMatchObject([
    { state: "detach-failed", lastError: expect.stringContaining("plugin bridge failed DEL") },
  ]);
  await rm(lab.dataDir);
  await rename(`${lab.dataDir}-away`, lab.dataDir);
  ran = [];
  await eventually("the retry succeeds", () => network.leases().length === 0);
  expect(new Set(ran.map((one) => one.split(" ")[0]))).toEqual(new Set(["bridge"]));
  expect(await lab.reserved()).toEqual([]);
});

test("after a DEL that hangs each plugin still gets its turn within the same time limit", async () => {
  const network = await openOwn({ teardownMs: 1500, firstRetryMs: 60_000 });
  const pod = await lab.pod({ portMappings });
  await network.attach(pod, never);
  const [leases = ""] = (await promisify(execFile)("find", [lab.dataDir, "-name", "lock"])).stdout.split("\n");
  const holder = spawn("flock", [leases, "sleep", "60"]);
  try {
    await eventually("the lock is held", async () => {
      const attempt = spawn("flock", ["--nonblock", leases, "true"]);
      return (await once(attempt, "exit"))[0] !== 0;
    });
    const from = performance.now();
    await network.detach(pod.sandboxId);
    expect(performance.now() - from).toBeLessThan(2000);
    expect(ran.slice(1)).toEqual([
      "bridge+portmap DEL: DeadlineExceeded",
      "portmap DEL",
      "bridge DEL: DeadlineExceeded",
    ]);
    expect((await lab.traces()).join("\n")).not.toContain("47123");
  } finally {
    holder.kill();
  }
});
