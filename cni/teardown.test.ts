// Failed teardowns: the namespace is kept for the retry, even across a restart, and `given-up` leases are listed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { networkLeftovers } from "./leftovers.ts";
import { addressResult, debianPlugins, eventually, type Lab, openLab, run } from "./testing/lab.ts";

const never = new AbortController().signal;
let lab: Lab;

beforeEach(async () => {
  lab = await openLab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

/** A bridge with masquerade rules, whose DEL fails before it does anything while the returned file exists. */
async function bridgeBehindGate(): Promise<string> {
  await lab.install("host-local");
  const shut = join(lab.stateDir, "shut");
  const refuse = `[ $CNI_COMMAND = DEL ] && [ -e ${shut} ] && { echo '{"code": 100, "msg": "gate shut"}'; exit 1; }`;
  await lab.script("gate", `${refuse}\nexec ${debianPlugins}/bridge < $call/stdin`);
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([], { type: "gate" }));
  await writeFile(shut, "");
  return shut;
}

async function pins(): Promise<string[]> {
  return await readdir(join(lab.runDir, "netns")).catch(() => []);
}

test("a retried DEL still finds the namespace after the pod's own is removed: no rule is left", async () => {
  const shut = await bridgeBehindGate();
  const network = await lab.open({ limits: { firstRetryMs: 200 } });
  const pod = await lab.pod();
  await network.attach(pod, never);
  expect((await lab.traces()).length).toBeGreaterThan(0);

  await network.detach(pod.sandboxId);
  expect(network.leases()).toMatchObject([{ state: "detach-failed" }]);
  expect(await pins()).toEqual([pod.sandboxId]);
  await lab.removeNamespace(pod);
  await rm(shut);

  await eventually("the retry succeeds", () => network.leases().length === 0);
  await eventually("the namespace is released", async () => (await pins()).length === 0);
  expect(await lab.reserved()).toEqual([]);
  expect(await lab.traces()).toEqual([]);
});

test("the namespace is kept across a restart of the daemon, and no other is", async () => {
  const shut = await bridgeBehindGate();
  const network = await lab.open({ limits: { firstRetryMs: 60_000 } });
  const pod = await lab.pod();
  await network.attach(pod, never);
  await network.detach(pod.sandboxId);
  await lab.removeNamespace(pod);
  await network.close();
  // A pin left by a daemon that was killed before it wrote the lease that names the pin.
  await writeFile(join(lab.runDir, "netns", "f".repeat(64)), "");
  await rm(shut);

  const later = await lab.open({ limits: { firstRetryMs: 500 } });
  expect(await pins()).toEqual([pod.sandboxId]);
  await eventually("the next daemon completes it", () => later.leases().length === 0);
  await eventually("the namespace is released", async () => (await pins()).length === 0);
  expect(await lab.traces()).toEqual([]);
});

test("a lease that was given up releases the namespace, is listed, and is never retried, not even by the next daemon", async () => {
  await lab.script(
    "stubborn",
    `case $CNI_COMMAND in ADD) echo '${addressResult("10.9.9.9/24")}';; DEL) echo '{"code": 100, "msg": "never"}'; exit 1;; esac`,
  );
  await lab.writeConfig("10-lab.conflist", { cniVersion: "1.0.0", name: "lab", plugins: [{ type: "stubborn" }] });
  const network = await lab.open({ limits: { firstRetryMs: 100, giveUpMs: 500 } });
  const pod = await lab.pod();
  await network.attach(pod, never);
  expect(await networkLeftovers(lab.stateDir)).toEqual([]);

  await network.detach(pod.sandboxId);
  expect(await networkLeftovers(lab.stateDir)).toMatchObject([{ pod: "default/web-0", givenUp: false }]);
  await eventually("it is given up", () => network.leases()[0]?.state === "given-up");
  await eventually("the namespace is released", async () => (await pins()).length === 0);
  const tries = (await lab.calls()).length;
  await network.close();

  const later = await lab.open({ limits: { firstRetryMs: 10 } });
  await later.collectGarbage(new Set());
  await later.detach(pod.sandboxId);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect((await lab.calls()).length).toBe(tries);
  expect(await networkLeftovers(lab.stateDir)).toEqual([
    {
      pod: "default/web-0",
      sandboxId: pod.sandboxId,
      network: "lab",
      plugins: ["stubborn"],
      interfaceName: "eth0",
      addresses: ["10.9.9.9"],
      reason: expect.stringContaining("code 100: never"),
      givenUp: true,
      file: join(lab.stateDir, "cni", `${pod.sandboxId}.json`),
    },
  ]);
});

test("a pod whose attaches fail and cannot be undone is refused after a few attempts, until these are detached", async () => {
  const shut = join(lab.stateDir, "shut");
  const refuse = `[ -e ${shut} ] && { echo '{"code": 100, "msg": "gate shut"}'; exit 1; }`;
  await lab.script("gate", `${refuse}\n[ $CNI_COMMAND = ADD ] && echo '${addressResult("10.9.9.9/24")}'; exit 0`);
  await lab.writeConfig("10-lab.conflist", { cniVersion: "1.0.0", name: "lab", plugins: [{ type: "gate" }] });
  await writeFile(shut, "");
  const network = await lab.open({ limits: { firstRetryMs: 60_000 } });
  const attach = async (overrides = {}) => await network.attach(await lab.pod(overrides), never);
  for (let tries = 0; tries < 3; tries += 1) await expect(attach()).rejects.toMatchObject({ name: "pluginFailed" });
  for (let tries = 0; tries < 3; tries += 1) {
    await expect(attach()).rejects.toMatchObject({
      name: "earlierNotDetached",
      code: "Unavailable",
      message: expect.stringContaining("gate shut"),
    });
  }
  expect([network.leases().length, (await pins()).length]).toEqual([3, 3]);
  await expect(attach({ uid: "another" })).rejects.toMatchObject({ name: "pluginFailed" });
  expect(network.leases()).toHaveLength(4);

  await rm(shut);
  expect(await attach()).toMatchObject({ ips: ["10.9.9.9"] });
  expect(network.leases().map(({ state }) => state)).toEqual(["detach-failed", "attached"]);
  // If only DEL fails, new sandboxes of the pod are still attached.
  for (let times = 0; times < 4; times += 1) {
    const pod = await lab.pod();
    await network.attach(pod, never);
    await writeFile(shut, "");
    await network.detach(pod.sandboxId);
    await rm(shut);
  }
  expect(network.leases()).toHaveLength(6);
});

test("a lease that cannot be removed, for example on a read-only disk, is removed soon after that is possible", async () => {
  await lab.script("plain", `[ $CNI_COMMAND = ADD ] && echo '${addressResult("10.9.9.9/24")}'; exit 0`);
  await lab.writeConfig("10-lab.conflist", { cniVersion: "1.0.0", name: "lab", plugins: [{ type: "plain" }] });
  const network = await lab.open({ limits: { firstRetryMs: 50 } });
  const pod = await lab.pod();
  await network.attach(pod, never);
  const leases = join(lab.stateDir, "cni");
  await run("mount", "--bind", leases, leases);
  try {
    await run("mount", "-o", "remount,bind,ro", leases);
    await network.detach(pod.sandboxId);
    expect(network.leases()).toMatchObject([{ sandboxId: pod.sandboxId }]);
    await eventually("it is retried", async () => (await lab.calls()).length > 2);
  } finally {
    await run("umount", "-l", leases);
  }
  await eventually("it is removed", () => network.leases().length === 0);
  expect(await readdir(leases)).toEqual([]);
});

test("a node that was off for longer than the retry period still retries", async () => {
  const shut = await bridgeBehindGate();
  const network = await lab.open({ limits: { firstRetryMs: 60_000 } });
  const pod = await lab.pod();
  await network.attach(pod, never);
  await network.detach(pod.sandboxId);
  await network.close();
  const file = join(lab.stateDir, "cni", `${pod.sandboxId}.json`);
  const failedSince = Date.now() - 48 * 3600_000;
  await writeFile(file, (await readFile(file, "utf8")).replace(/"failedSince":\d+/, `"failedSince":${failedSince}`));
  const tries = (await lab.calls()).length;

  const later = await lab.open({ limits: { firstRetryMs: 100 } });
  await eventually("it fails again, twice", async () => (await lab.calls()).length >= tries + 2);
  expect(later.leases()).toMatchObject([{ state: "detach-failed" }]);
  expect(await readFile(file, "utf8")).toContain(`"failedSince":${failedSince}`);
  await rm(shut);
  await eventually("the retry succeeds", () => later.leases().length === 0);
  expect(await lab.traces()).toEqual([]);
});

test("a lease left by a previous daemon is detached once, however often this is requested", async () => {
  await lab.script(
    "stubborn",
    `case $CNI_COMMAND in ADD) echo '${addressResult("10.9.9.9/24")}';; DEL) echo '{"code": 100, "msg": "never"}'; exit 1;; esac`,
  );
  await lab.writeConfig("10-lab.conflist", { cniVersion: "1.0.0", name: "lab", plugins: [{ type: "stubborn" }] });
  const network = await lab.open();
  const pod = await lab.pod();
  await network.attach(pod, never);
  await network.close();

  const later = await lab.open({ limits: { firstRetryMs: 60_000 } });
  await later.detach(pod.sandboxId);
  await later.collectGarbage(new Set());
  expect((await lab.calls()).map(({ command }) => command)).toEqual(["ADD", "DEL"]);
});

test("a DEL that a killed daemon left running may finish before the next daemon's begins", async () => {
  const notes = join(lab.stateDir, "notes");
  await lab.script(
    "slow",
    `case $CNI_COMMAND in ADD) echo '${addressResult("10.9.9.9/24")}';; DEL) echo begin >>${notes}; sleep 1; echo end >>${notes};; esac`,
  );
  await lab.writeConfig("10-lab.conflist", { cniVersion: "1.0.0", name: "lab", plugins: [{ type: "slow" }] });
  const pod = await lab.pod();
  const { confDir, binDir, stateDir, runDir } = lab;
  const options = JSON.stringify({ confDir, binDirs: [binDir], stateDir, runDir });
  const script = join(stateDir, "daemon.ts");
  await writeFile(
    script,
    `import { loadHost } from ${JSON.stringify(join(import.meta.dirname, "../native/index.ts"))};
     import { openNetwork } from ${JSON.stringify(join(import.meta.dirname, "network.ts"))};
     const network = await openNetwork({ ...${options}, host: loadHost(), log: () => {} });
     const pod = ${JSON.stringify({ ...pod, annotations: null })};
     await network.attach({ ...pod, annotations: new Map() }, new AbortController().signal);
     await network.detach(pod.sandboxId);`,
  );
  const daemon = spawn(process.execPath, [script], { stdio: "inherit" });
  const noted = async () => (await readFile(notes, "utf8").catch(() => "")).trim().split("\n");
  await eventually("the DEL runs", async () => (await noted())[0] === "begin");
  daemon.kill("SIGKILL");
  await once(daemon, "exit");

  const network = await lab.open();
  await network.detach(pod.sandboxId);
  expect(await noted()).toEqual(["begin", "end", "begin", "end"]);
  expect(network.leases()).toEqual([]);
});

test("a DEL interrupted by shutdown leaves its lease as it is, and the next daemon's begins at once", async () => {
  const answer = `case $CNI_COMMAND in ADD) echo '${addressResult("10.9.9.9/24")}';; DEL) [ -e ${lab.stateDir}/hang ] && exec sleep 600;; esac`;
  await lab.script("hangs", `${answer}; exit 0`);
  await lab.writeConfig("10-lab.conflist", { cniVersion: "1.0.0", name: "lab", plugins: [{ type: "hangs" }] });
  const network = await lab.open();
  const pod = await lab.pod();
  await network.attach(pod, never);
  await writeFile(join(lab.stateDir, "hang"), "");
  let isDetached = false;
  void network.detach(pod.sandboxId).then(() => (isDetached = true));
  await eventually("the DEL runs", async () => (await lab.calls()).length === 2);
  await network.close();

  const later = await lab.open({ limits: { firstRetryMs: 60_000 } });
  expect(later.leases()).toEqual([{ sandboxId: pod.sandboxId, state: "attached" }]);
  expect(await pins()).toEqual([]);
  expect(isDetached, "its caller would remove what the next daemon's DEL needs").toBe(false);
  await rm(join(lab.stateDir, "hang"));
  await later.detach(pod.sandboxId);
  expect(later.leases()).toEqual([]);
});

test("retries of many pods run a few at a time", async () => {
  const notes = join(lab.stateDir, "notes");
  const refuse = `echo + >>${notes}; sleep 0.2; echo - >>${notes}; echo '{"code": 100, "msg": "never"}'; exit 1`;
  await lab.script(
    "stubborn",
    `case $CNI_COMMAND in ADD) echo '${addressResult("10.9.9.9/24")}';; DEL) ${refuse};; esac`,
  );
  await lab.writeConfig("10-lab.conflist", { cniVersion: "1.0.0", name: "lab", plugins: [{ type: "stubborn" }] });
  const network = await lab.open({ limits: { firstRetryMs: 60_000 } });
  const pods = await Promise.all(Array.from({ length: 8 }, (_, at) => lab.pod({ name: `web-${at}` })));
  await Promise.all(pods.map((pod) => network.attach(pod, never)));
  await Promise.all(pods.map((pod) => network.detach(pod.sandboxId)));
  await network.close();
  await rm(notes);

  await lab.open({ limits: { firstRetryMs: 10, longestRetryMs: 10 } });
  const noted = async () => (await readFile(notes, "utf8").catch(() => "")).trim().split("\n");
  await eventually("as many tries as pods", async () => (await noted()).filter((line) => line === "-").length >= 8);
  let [running, most] = [0, 0];
  for (const line of await noted()) {
    running += line === "+" ? 1 : -1;
    most = Math.max(most, running);
  }
  expect(most).toBeLessThanOrEqual(4);
});

test("the retry delay never exceeds longestRetryMs", async () => {
  await lab.script(
    "stubborn",
    `case $CNI_COMMAND in ADD) echo '${addressResult("10.9.9.9/24")}';; DEL) echo '{"code": 100, "msg": "never"}'; exit 1;; esac`,
  );
  await lab.writeConfig("10-lab.conflist", { cniVersion: "1.0.0", name: "lab", plugins: [{ type: "stubborn" }] });
  const network = await lab.open({ limits: { firstRetryMs: 20, longestRetryMs: 20 } });
  const pod = await lab.pod();
  await network.attach(pod, never);
  await network.detach(pod.sandboxId);
  // If each delay were twice the previous one, the twelfth retry would come after 40 s.
  await eventually("a dozen tries", async () => (await lab.calls()).length > 12);
});

test("a STATUS that hangs does not block openNetwork: the network is not ready, and close kills the plugin", async () => {
  const pidFile = join(lab.stateDir, "pid");
  await lab.script("mute", `[ $CNI_COMMAND = STATUS ] && { echo $$ >${pidFile}; exec sleep 600; }; exit 0`);
  await lab.writeConfig("10-lab.conflist", { cniVersion: "1.1.0", name: "lab", plugins: [{ type: "mute" }] });
  const from = performance.now();
  const network = await lab.open({ limits: { statusMs: 600_000 } });
  expect(performance.now() - from).toBeLessThan(2000);
  expect(network.readiness()).toMatchObject({ ready: false });
  const pid = (await readFile(pidFile, "utf8")).trim();
  const closing = performance.now();
  await network.close();
  expect(performance.now() - closing).toBeLessThan(1000);
  await eventually("STATUS has exited", async () => (await readFile(`/proc/${pid}/stat`).catch(() => "")).length === 0);
});
