// Plugins that fail, hang, lie or disappear: what the caller gets, and that nothing is left behind.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { PluginFailure } from "./plugin.ts";
import { addressResult, eventually, type Lab, nameOf, openLab, run } from "./testing/lab.ts";

const never = new AbortController().signal;
let lab: Lab;

beforeEach(async () => {
  lab = await openLab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

/** Configures a network of script plugins with these shell lines. */
async function scripts(bodies: Readonly<Record<string, string>>, cniVersion = "1.0.0"): Promise<void> {
  for (const [type, body] of Object.entries(bodies)) await lab.script(type, body);
  const plugins = Object.keys(bodies).map((type) => ({ type }));
  await lab.writeConfig("10-scripts.conflist", { cniVersion, name: "scripts", plugins });
}

async function commands(): Promise<string[]> {
  return (await lab.calls()).map(({ type, command }) => `${type} ${command}`);
}

const give = (address: string): string => `[ $CNI_COMMAND = ADD ] && echo '${addressResult(address)}'; exit 0`;
const onlyOn = (command: string, body: string): string => `[ $CNI_COMMAND = ${command} ] && { ${body}; }; exit 0`;

test("a plugin's error reaches the caller with its code and details, and the chain is undone in reverse", async () => {
  const refusal = JSON.stringify({ cniVersion: "1.0.0", code: 104, msg: "no room", details: "subnet is full" });
  await scripts({
    first: give("10.9.9.9/24"),
    second: onlyOn("ADD", `echo '${refusal}'; exit 1`),
    third: give("10.9.9.9/24"),
  });
  const network = await lab.open();

  const failure = await network.attach(await lab.pod(), never).catch((error: unknown) => error);

  expect(failure).toMatchObject({ name: "pluginFailed", code: "Internal" });
  expect(String(failure)).toContain("plugin second failed ADD with code 104: no room; subnet is full");
  const cause = failure instanceof Error ? failure.cause : undefined;
  expect(cause).toBeInstanceOf(PluginFailure);
  expect(cause).toMatchObject({ pluginCode: 104, message: "no room", details: "subnet is full" });
  expect(await commands()).toEqual(["first ADD", "second ADD", "second DEL", "first DEL"]);
  expect(network.leases()).toEqual([]);
});

test("code 11 tells the caller to retry", async () => {
  await scripts({ only: onlyOn("ADD", `echo '{"code": 11, "msg": "not yet"}'; exit 1`) });
  const network = await lab.open();
  await expect(network.attach(await lab.pod(), never)).rejects.toMatchObject({
    name: "pluginBusy",
    code: "Unavailable",
  });
});

test.each([
  ["prints nothing", "true", "pluginBabbled", /it printed nothing/],
  ["prints garbage", "echo it went well", "pluginBabbled", /"it went well\\n" is not a JSON object/],
  ["gives no address", `echo '{"ips": []}'`, "noAddress", /gave sandbox [0-9a-f]{64} no address on eth0/],
  [
    "calls its error a success",
    `echo '{"code": 7, "msg": "no pool"}'`,
    "pluginBabbled",
    /an error object, but the exit code is 0: no pool/,
  ],
  ["gives a false address", `echo '{"ips": [{"address": "10.300.0.1/24"}]}'`, "pluginBabbled", /no "address" in CIDR/],
  ["points past the interfaces", `echo '{"ips": [{"address": "10.0.0.1/24", "interface": 7}]}'`, "pluginBabbled", /7/],
  ["fails without an error object", "echo oops >&2; exit 3", "pluginDied", /exited with code 3 and wrote "oops"/],
  ["dies by a signal", "kill -SEGV $$", "pluginDied", /was killed by SIGSEGV/],
  ["prints 10 MiB", "head -c 10485760 /dev/zero; sleep 60", "pluginTooLoud", /more than 1048576 bytes/],
])("a plugin that %s fails the attach and is undone", async (_, body, name, words) => {
  await scripts({ only: onlyOn("ADD", body) });
  const network = await lab.open();

  const failure = await network.attach(await lab.pod(), never).catch((error: unknown) => error);

  expect(failure).toMatchObject({ name });
  expect(String(failure)).toMatch(words);
  expect(await commands()).toEqual(["only ADD", "only DEL"]);
  expect(network.leases()).toEqual([]);
});

test("10 MiB on stderr neither block the plugin nor make it fail", async () => {
  await scripts({ only: `head -c 10485760 /dev/zero >&2; ${give("10.9.9.9/24")}` });
  const network = await lab.open();
  expect(await network.attach(await lab.pod(), never)).toEqual({ ips: ["10.9.9.9"], interfaceName: "eth0" });
});

test("a plugin that hangs and ignores SIGTERM is killed at its deadline, with its children", async () => {
  const pidFile = join(lab.stateDir, "pid");
  await scripts({ only: onlyOn("ADD", `trap '' TERM; sleep 60 & echo $! > ${pidFile}; wait`) });
  const network = await lab.open({ limits: { pluginMs: 300 } });
  const from = performance.now();

  await expect(network.attach(await lab.pod(), never)).rejects.toMatchObject({
    name: "pluginTimedOut",
    code: "DeadlineExceeded",
  });

  expect(performance.now() - from).toBeLessThan(2000);
  const child = (await readFile(pidFile, "utf8")).trim();
  await eventually("the plugin's child has exited", async () => !(await isAlive(child)));
  expect(network.leases()).toEqual([]);
});

test("a plugin that queues behind a hundred others gets nearly as long as the kubelet waits", async () => {
  const turn = join(lab.stateDir, "turn");
  await run("mkfifo", turn);
  await scripts({ only: onlyOn("ADD", `read -r _ < ${turn}; echo '${addressResult("10.9.9.9/24")}'`) });
  const network = await lab.open();
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const attaching = network.attach(await lab.pod(), never);
    // This open blocks until the plugin opens the other end.
    const granting = await open(turn, "w");
    await vi.advanceTimersByTimeAsync(160_000);
    await granting.writeFile("\n");
    await granting.close();
    expect(await attaching).toEqual({ ips: ["10.9.9.9"], interfaceName: "eth0" });
  } finally {
    vi.useRealTimers();
  }
});

test("a GC that hangs blocks attaching pods only until its own time limit", async () => {
  await scripts({ only: `[ $CNI_COMMAND = GC ] && sleep 60; ${give("10.9.9.9/24")}` }, "1.1.0");
  const network = await lab.open({ limits: { gcMs: 300 } });
  const collecting = network.collectGarbage(new Set());
  const from = performance.now();
  expect(await network.attach(await lab.pod(), never)).toMatchObject({ ips: ["10.9.9.9"] });
  await collecting;
  expect(performance.now() - from).toBeLessThan(2000);
  expect(lab.logged.join("\n")).toContain("did not finish GC within 0.3 s");
});

test("a GC interrupted by the daemon's shutdown is not reported as a failure", async () => {
  await scripts({ only: `[ $CNI_COMMAND = GC ] && sleep 60; ${give("10.9.9.9/24")}` }, "1.1.0");
  const network = await lab.open();
  const collecting = network.collectGarbage(new Set());
  await eventually("GC has begun", async () => (await commands()).includes("only GC"));
  await network.close();
  await collecting;
  expect(lab.logged.filter((line) => line.startsWith("warn"))).toEqual([]);
});

test("a child that keeps the plugin's stdout open does not delay the answer", async () => {
  const pidFile = join(lab.stateDir, "pid");
  const daemonize = `sleep 30 & echo $! > ${pidFile}`;
  await scripts({ only: onlyOn("ADD", `${daemonize}; echo '${addressResult("10.9.9.9/24")}'`) });
  const network = await lab.open();
  const from = performance.now();

  const attachment = await network.attach(await lab.pod(), never);

  expect(attachment.ips).toEqual(["10.9.9.9"]);
  expect(performance.now() - from).toBeLessThan(5000);
  process.kill(Number(await readFile(pidFile, "utf8")));
});

test("when the caller cancels, the plugin is killed and the chain undone", async () => {
  await lab.install("bridge", "host-local");
  await lab.script("slow", onlyOn("ADD", "sleep 60"));
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([{ type: "slow" }]));
  const network = await lab.open();
  const caller = new AbortController();
  const attaching = network.attach(await lab.pod(), caller.signal);
  await eventually("slow runs", async () => (await lab.calls()).length === 1);
  expect(await lab.reserved()).toEqual([`${lab.prefix}.2`]);

  caller.abort();

  await expect(attaching).rejects.toMatchObject({ name: "cancelled", code: "Cancelled" });
  expect(network.leases()).toEqual([]);
  expect(await lab.reserved()).toEqual([]);
  expect(await lab.traces()).toEqual([]);
});

test("a DEL that fails twice is retried until it succeeds, alone", async () => {
  const failTwice = `[ $(cat ${lab.stateDir}/tries | wc -l) -ge 3 ] || { echo '{"code": 100, "msg": "gate shut"}'; exit 1; }`;
  await scripts({
    first: give("10.9.9.9/24"),
    stubborn: `case $CNI_COMMAND in ADD) echo '${addressResult("10.9.9.9/24")}';; DEL) echo >> ${lab.stateDir}/tries; ${failTwice};; esac`,
  });
  const network = await lab.open({ limits: { firstRetryMs: 300 } });
  const pod = await lab.pod();
  await network.attach(pod, never);

  await network.detach(pod.sandboxId);

  expect(network.leases()).toEqual([
    { sandboxId: pod.sandboxId, state: "detach-failed", lastError: expect.stringContaining("code 100: gate shut") },
  ]);
  await eventually("the retries succeed", () => network.leases().length === 0);
  expect(await commands()).toEqual([
    "first ADD",
    "stubborn ADD",
    "stubborn DEL",
    "first DEL",
    "stubborn DEL",
    "stubborn DEL",
  ]);
  expect(await readdir(join(lab.stateDir, "cni"))).toEqual([]);
});

test("a removed plugin does not leak the address: the others run, and it is retried, also by the next daemon", async () => {
  await lab.install("bridge", "host-local");
  await lab.script("gone", `[ $CNI_COMMAND = ADD ] && sed 's/.*"prevResult":\\({.*}\\)}$/\\1/' $call/stdin; exit 0`);
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([{ type: "gone" }]));
  const network = await lab.open();
  const pod = await lab.pod();
  expect(await network.attach(pod, never)).toEqual({ ips: [`${lab.prefix}.2`], interfaceName: "eth0" });
  await lab.uninstall("gone");

  await network.detach(pod.sandboxId);

  expect(await lab.reserved()).toEqual([]);
  expect(await lab.traces()).toEqual([]);
  expect(network.leases()).toMatchObject([
    { state: "detach-failed", lastError: expect.stringContaining("CNI plugin gone of network lab-") },
  ]);
  network.close();

  await lab.script("gone", "exit 0");
  const later = await lab.open({ limits: { firstRetryMs: 10 } });
  await eventually("the next daemon completes it", () => later.leases().length === 0);
  expect(await commands()).toEqual(["gone ADD", "gone DEL"]);
});

test("a DEL that hangs does not use up the others' time", async () => {
  await scripts({
    first: give("10.9.9.9/24"),
    hanging: `case $CNI_COMMAND in ADD) echo '${addressResult("10.9.9.9/24")}';; DEL) sleep 60;; esac`,
  });
  const network = await lab.open({ limits: { teardownMs: 1000, firstRetryMs: 60_000 } });
  const pod = await lab.pod();
  await network.attach(pod, never);
  const from = performance.now();

  await network.detach(pod.sandboxId);

  expect(performance.now() - from).toBeLessThan(2500);
  expect((await commands()).slice(-2)).toEqual(["hanging DEL", "first DEL"]);
  expect(network.leases()).toMatchObject([
    { state: "detach-failed", lastError: expect.stringContaining("within 0.5 s") },
  ]);
});

test("DEL with code 3 (container unknown) counts as done", async () => {
  await scripts({
    only: `case $CNI_COMMAND in ADD) echo '${addressResult("10.9.9.9/24")}';; DEL) echo '{"code": 3, "msg": "who?"}'; exit 1;; esac`,
  });
  const network = await lab.open();
  const pod = await lab.pod();
  await network.attach(pod, never);
  await network.detach(pod.sandboxId);
  expect(network.leases()).toEqual([]);
});

test("if a daemon is killed in the middle of ADD, the next one tears the lease down", async () => {
  await lab.install("bridge", "host-local");
  await lab.script("slow", onlyOn("ADD", "sleep 60"));
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([{ type: "slow" }]));
  const pod = await lab.pod();
  const script = join(lab.stateDir, "daemon.ts");
  const { confDir, binDir, stateDir, runDir } = lab;
  const options = JSON.stringify({ confDir, binDirs: [binDir], stateDir, runDir });
  await writeFile(
    script,
    `import { openNetwork } from ${JSON.stringify(join(import.meta.dirname, "network.ts"))};
     const log = () => {};
     import { loadHost } from ${JSON.stringify(join(import.meta.dirname, "../native/index.ts"))};
     const network = await openNetwork({ ...${options}, host: loadHost(), log });
     const pod = ${JSON.stringify({ ...pod, annotations: null })};
     await network.attach({ ...pod, annotations: new Map() }, new AbortController().signal);`,
  );
  const daemon = spawn(process.execPath, [script], { stdio: "inherit" });
  await eventually("slow runs", async () => (await lab.calls()).length === 1);
  expect(await lab.reserved()).toEqual([`${lab.prefix}.2`]);
  daemon.kill("SIGKILL");
  await once(daemon, "exit");

  const network = await lab.open();
  expect(network.leases()).toEqual([{ sandboxId: pod.sandboxId, state: "attaching" }]);
  await network.collectGarbage(new Set());
  expect(lab.logged.join("\n")).toMatch(/warn killed network plugins of a previous daemon {"pids":"\d+( \d+)*"}/);

  expect(network.leases()).toEqual([]);
  expect(await lab.reserved()).toEqual([]);
  expect(await lab.traces()).toEqual([]);
  expect(await run("ip", "-n", nameOf(pod), "-o", "link")).not.toContain("eth0");
});

test("a DEL that a killed daemon left running may finish, also while it executes another program", async () => {
  await scripts({ only: give("10.9.9.9/24") });
  const before = await lab.open();
  const pod = await lab.pod();
  await before.attach(pod, never);
  await before.close();
  const chain = join(lab.stateDir, "execs");
  await writeFile(chain, `[ $((LEFT -= 1)) -gt 0 ] || exit 0; exec sh ${chain}\n`);
  const env = { ...process.env, LEFT: "200", CNI_COMMAND: "DEL", CNI_CONTAINERID: pod.sandboxId };
  const deletions = Array.from({ length: 4 }, () => once(spawn("sh", [chain], { env, stdio: "inherit" }), "exit"));

  const network = await lab.open();
  await network.collectGarbage(new Set());

  expect(await Promise.all(deletions)).toEqual(deletions.map(() => [0, null]));
  expect(network.leases()).toEqual([]);
});

test("a DEL after a restart kills processes that a plugin left running for this pod, and for no other", async () => {
  const pids = join(lab.stateDir, "pids");
  await scripts({
    only: onlyOn("ADD", `sleep 600 >&- 2>&- & echo $! > ${pids}.$CNI_CONTAINERID; ${give("10.9.9.9/24")}`),
  });
  const before = await lab.open();
  const [deleted, living] = [await lab.pod(), await lab.pod()];
  await before.attach(deleted, never);
  await before.attach(living, never);
  await before.close();
  const helperOf = async ({ sandboxId }: typeof living) => (await readFile(`${pids}.${sandboxId}`, "utf8")).trim();

  const network = await lab.open();
  try {
    await network.detach(deleted.sandboxId);
    expect(await isAlive(await helperOf(deleted))).toBe(false);
    expect(await isAlive(await helperOf(living))).toBe(true);
    await network.detach(living.sandboxId);
    expect(await isAlive(await helperOf(living))).toBe(false);
  } finally {
    for (const pod of [deleted, living]) await run("kill", "-9", await helperOf(pod)).catch(() => undefined);
  }
});

test("a lease file that is not a lease is named in the log and does not prevent startup", async () => {
  const first = await lab.open();
  first.close();
  await writeFile(join(lab.stateDir, "cni", "abc.json"), "{\n");
  await writeFile(join(lab.stateDir, "cni", "abd.json.tmp"), "{");

  const network = await lab.open();

  expect(network.leases()).toEqual([]);
  expect(lab.logged.join("\n")).toMatch(/warn network lease cannot be read.*abc\.json.*not a JSON object/);
  expect(await readdir(join(lab.stateDir, "cni"))).toEqual(["abc.json"]);
});

test("a lease named after another sandbox is ignored: neither sandbox gets a DEL", async () => {
  await scripts({ only: give("10.9.9.9/24") });
  const first = await lab.open();
  const pod = await lab.pod();
  await first.attach(pod, never);
  await first.close();
  const directory = join(lab.stateDir, "cni");
  await rename(join(directory, `${pod.sandboxId}.json`), join(directory, "abc.json"));

  const network = await lab.open();

  expect(network.leases()).toEqual([]);
  expect(lab.logged.join("\n")).toMatch(/warn network lease cannot be read.*abc\.json.*its target is not that of/);
  await network.collectGarbage(new Set());
  expect(await commands()).toEqual(["only ADD"]);
});

test("with a read-only state directory nothing is attached", async () => {
  await scripts({ only: give("10.9.9.9/24") });
  const network = await lab.open();
  const directory = join(lab.stateDir, "cni");
  await run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", directory);
  try {
    await expect(network.attach(await lab.pod(), never)).rejects.toMatchObject({ name: "leaseNotWritten" });
  } finally {
    await run("umount", directory);
  }
  expect(await commands()).toEqual([]);
});

test("a second ADD of the same sandbox is refused", async () => {
  await scripts({ only: give("10.9.9.9/24") });
  const network = await lab.open();
  const pod = await lab.pod();
  await network.attach(pod, never);
  await expect(network.attach(pod, never)).rejects.toMatchObject({ name: "alreadyAttached" });
  expect(await commands()).toEqual(["only ADD"]);
});

async function isAlive(pid: string): Promise<boolean> {
  const state = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return state !== "" && !/\) Z /.test(state);
}
