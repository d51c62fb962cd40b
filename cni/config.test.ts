// Which configuration file is used, which are rejected and why, and how changes are noticed.

import { mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadConfig, parseNetwork } from "./config.ts";
import { addressResult, eventually, type Lab, openLab, run } from "./testing/lab.ts";

let lab: Lab;

beforeEach(async () => {
  lab = await openLab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

const valid = { cniVersion: "1.0.0", name: "net", plugins: [{ type: "bridge" }] };

test("the first valid file in name order is used; rejected ones before it are reported with the reason", async () => {
  await lab.writeConfig("00-readme.txt", "not looked at");
  await lab.writeConfig("10-broken.conflist", "{");
  await lab.writeConfig("20-single.conf", { cniVersion: "0.3.1", name: "single", type: "ptp" });
  await lab.writeConfig("30-list.conflist", valid);

  const loaded = await loadConfig(lab.confDir);

  expect(loaded).toMatchObject({
    kind: "found",
    path: join(lab.confDir, "20-single.conf"),
    network: { name: "single", cniVersion: "0.3.1", plugins: [{ type: "ptp" }] },
    rejected: [{ path: join(lab.confDir, "10-broken.conflist"), reason: "it is not a JSON object" }],
  });
});

/** Writes files into the folder of the network "net". */
async function writeFolder(files: Readonly<Record<string, object | string>>): Promise<void> {
  await mkdir(join(lab.confDir, "net"), { recursive: true });
  for (const [name, content] of Object.entries(files)) await lab.writeConfig(join("net", name), content);
}

const typesOf = async () => {
  const loaded = await loadConfig(lab.confDir);
  return loaded.kind === "none" ? loaded.reason : loaded.network.plugins.map(({ type }) => type);
};

test("plugins of the network's folder run after those of the list, sorted by file name", async () => {
  const { plugins: _, ...open } = valid;
  await writeFolder({ "a.conf": { type: "a" }, "Z.conf": { type: "z" }, "no.json": "{", "c.conf.bak": "{" });
  await mkdir(join(lab.confDir, "net", "directory.conf"));
  await lab.writeConfig("10-a.conflist", valid);
  expect(await typesOf()).toEqual(["bridge", "z", "a"]);
  await lab.writeConfig("10-a.conflist", { ...valid, loadOnlyInlinedPlugins: true });
  expect(await typesOf()).toEqual(["bridge"]);
  await lab.writeConfig("10-a.conflist", open);
  expect(await typesOf()).toEqual(["z", "a"]);
  await lab.writeConfig("10-a.conflist", { ...valid, plugins: [] });
  expect(await typesOf()).toContain("at least one plugin");
  await lab.writeConfig("10-a.conflist", { ...open, loadOnlyInlinedPlugins: true });
  expect(await typesOf()).toContain("at least one plugin");
  await lab.writeConfig("10-a.conflist", { ...open, name: "other" });
  expect(await typesOf()).toContain(`it has no "plugins", and there is no *.conf file in ${lab.confDir}/other`);
  await rm(join(lab.confDir, "10-a.conflist"));
  await lab.writeConfig("10-a.conf", { cniVersion: "1.0.0", name: "net", type: "ptp" });
  expect(await typesOf()).toEqual(["ptp"]);
});

test.each([
  ["invalid JSON", "{", "is not an object"],
  ["no type", { name: "x" }, 'has no "type"'],
  ["a type that is a path", { type: "../sh" }, "plain file name"],
  ["more than 1 MiB", " ".repeat(1024 * 1024 + 1), "is longer than"],
])("a list whose folder contains a file with %s is rejected", async (_, content, words) => {
  await lab.writeConfig("10-a.conflist", valid);
  await writeFolder({ "10-good.conf": { type: "a" }, "20-bad.conf": content });
  const reason = await typesOf();
  expect(reason).toContain(`its plugin file ${lab.confDir}/net/20-bad.conf `);
  expect(reason).toContain(words);
});

test("a network name that is a path out of the directory selects no folder", async () => {
  for (const name of ["..", "../net", "net/../../net", "/etc", "net\\x", ""]) {
    await lab.writeConfig("10-a.conflist", { ...valid, name });
    expect(await loadConfig(lab.confDir)).toMatchObject({ kind: "none", folders: [] });
  }
});

test("a plugin of the network's folder runs after those of the list as long as its file exists", async () => {
  await lab.script("inlined", `[ $CNI_COMMAND = ADD ] && echo '${addressResult("10.9.9.9/24")}'; exit 0`);
  await lab.script("added", `[ $CNI_COMMAND = ADD ] && echo '${addressResult("10.9.9.9/24")}'; exit 0`);
  await lab.writeConfig("10-a.conflist", { ...valid, plugins: [{ type: "inlined" }] });
  const network = await lab.open();
  const becomes = (plugins: readonly string[]) =>
    eventually(`the plugins are ${plugins}`, () => JSON.stringify(network.info()).includes(JSON.stringify(plugins)));
  await becomes(["inlined"]);
  await mkdir(join(lab.confDir, "net"));
  // By then the creation of the folder has been noticed.
  await new Promise((resolve) => setTimeout(resolve, 300));
  await writeFolder({ "10-added.conf": { type: "added", name: "x", cniVersion: "0.1.0", setting: 7 } });
  await becomes(["inlined", "added"]);
  const pod = await lab.pod();

  await network.attach(pod, new AbortController().signal);
  await rm(join(lab.confDir, "net", "10-added.conf"));
  await becomes(["inlined"]);
  await network.detach(pod.sandboxId);

  const calls = await lab.calls();
  expect(calls.map(({ type, command }) => `${type} ${command}`)).toEqual([
    "inlined ADD",
    "added ADD",
    "added DEL",
    "inlined DEL",
  ]);
  expect(JSON.parse(calls[1]?.stdin ?? "")).toMatchObject({
    type: "added",
    name: "net",
    cniVersion: "1.0.0",
    setting: 7,
  });
});

test.each([
  ["a type that is a path (CVE-2021-20206)", { ...valid, plugins: [{ type: "../../bin/sh" }] }, /plain file name/],
  ["an absolute type", { ...valid, plugins: [{ type: "/bin/sh" }] }, /plain file name/],
  ["dot-dot alone", { ...valid, plugins: [{ type: ".." }] }, /plain file name/],
  ["an IPAM type that is a path", { ...valid, plugins: [{ type: "ptp", ipam: { type: "../sh" } }] }, /"ipam" type/],
  ["a plugin without type", { ...valid, plugins: [{ type: "ptp" }, {}] }, /plugin 2 has no "type"/],
  ["a plugin that is not an object", { ...valid, plugins: [7] }, /plugin 1 is not an object/],
  ["no plugins", { ...valid, plugins: [] }, /at least one plugin/],
  ["a name that is a path", { ...valid, name: "../x" }, /"name" must be/],
  ["no name", { cniVersion: "1.0.0", plugins: [{ type: "ptp" }] }, /"name" must be/],
  ["an old version", { ...valid, cniVersion: "0.2.0" }, /names a supported version \(0\.3\.0/],
  ["a future version", { ...valid, cniVersion: "2.0.0" }, /names a supported version/],
])("a list with %s is rejected", (_, content, reason) => {
  expect(parseNetwork(JSON.stringify(content), true)).toEqual({
    kind: "invalid",
    reason: expect.stringMatching(reason),
  });
});

test.each(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])("version %s is supported", (cniVersion) => {
  expect(parseNetwork(JSON.stringify({ ...valid, cniVersion }), true)).toMatchObject({ network: { cniVersion } });
});

test("of several versions the highest supported one is used", () => {
  const content = { ...valid, cniVersion: "0.4.0", cniVersions: ["0.3.1", "1.1.0", "1.0.0", "9.0.0"] };
  expect(parseNetwork(JSON.stringify(content), true)).toMatchObject({ network: { cniVersion: "1.1.0" } });
});

test.each([true, "true", "True", "TRUE"])("a boolean may be written as %j, as in libcni", (on) => {
  const content = { ...valid, disableGC: on };
  expect(parseNetwork(JSON.stringify(content), true)).toMatchObject({ network: { disableGc: true } });
});

test("members named __proto__ are kept as ordinary members", () => {
  const text = `{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"ptp","__proto__":{"type":"x"},"ipam":{"__proto__":1}}]}`;
  const parsed = parseNetwork(text, true);
  expect(parsed).toMatchObject({ kind: "network" });
  expect(JSON.stringify(parsed)).toContain(`{"type":"ptp","__proto__":{"type":"x"},"ipam":{"__proto__":1}}`);
});

test("anything but a regular file of at most 1 MiB is rejected without being read", async () => {
  await run("mkfifo", join(lab.confDir, "10-fifo.conflist"));
  await mkdir(join(lab.confDir, "20-directory.conflist"));
  await run("truncate", "-s", "1G", join(lab.confDir, "30-huge.conflist"));
  const { rejected } = await loadConfig(lab.confDir);
  expect(rejected.map(({ reason }) => reason)).toEqual([
    "it is not a regular file",
    "it is not a regular file",
    "it is longer than 1048576 bytes",
  ]);
});

test("readiness follows the directory: missing, empty, invalid, plugin missing, ready, gone again", async () => {
  await rm(lab.confDir, { recursive: true });
  const network = await lab.open();
  const becomes = (words: RegExp) =>
    eventually(`readiness says ${words}`, () => {
      const now = network.readiness();
      return words.test(now.ready ? "ready" : `${now.reason}: ${now.message}`);
    });
  await becomes(/^NetworkPluginNotReady: directory .*net\.d cannot be read: ENOENT/);
  const pod = await lab.pod();
  await expect(network.attach(pod, new AbortController().signal)).rejects.toMatchObject({
    name: "networkNotReady",
    code: "Unavailable",
  });

  await mkdir(lab.confDir);
  await becomes(/no \*\.conflist, \*\.conf or \*\.json file in/);
  await lab.writeConfig("10-a.conflist", "{}");
  await becomes(/no valid file in .*10-a\.conflist: "name" must be letters/);
  await lab.writeConfig("10-a.conflist", valid);
  await becomes(/needs bridge, missing from .*bin/);
  await expect(network.attach(pod, new AbortController().signal)).rejects.toMatchObject({
    name: "pluginMissing",
    code: "FailedPrecondition",
  });
  await lab.install("bridge");
  await becomes(/^ready$/);
  await rename(lab.confDir, `${lab.confDir}.old`);
  await becomes(/cannot be read: ENOENT/);
  await mkdir(lab.confDir);
  await lab.writeConfig("10-a.conflist", valid);
  await becomes(/^ready$/);
  expect(network.info()).toMatchObject({
    config: { path: join(lab.confDir, "10-a.conflist"), name: "net", plugins: ["bridge"] },
    readiness: { ready: true },
  });
});

test("a directory created several levels below an existing one is noticed", async () => {
  const confDir = join(lab.stateDir, "a", "b", "net.d");
  const network = await lab.open({ confDir });
  await lab.install("bridge");
  await mkdir(dirname(confDir), { recursive: true });
  await mkdir(confDir);
  await writeFile(join(confDir, "10-a.conflist"), JSON.stringify(valid));
  await eventually("it is ready", () => network.readiness().ready);
});

test("a directory that was replaced by a link to itself is not ready, and is watched until it is a directory again", async () => {
  await lab.install("bridge");
  await lab.writeConfig("10-a.conflist", valid);
  const network = await lab.open();
  expect(network.readiness()).toEqual({ ready: true });
  await rm(lab.confDir, { recursive: true });
  await symlink("net.d", lab.confDir);
  await eventually("it reports why", () => JSON.stringify(network.readiness()).includes("ELOOP"));
  await rm(lab.confDir);
  await mkdir(lab.confDir);
  await lab.writeConfig("10-a.conflist", valid);
  await eventually("it is ready", () => network.readiness().ready);
});

test("the readiness of a version 1.1.0 network follows STATUS, which is refreshed in the background", async () => {
  const shut = join(lab.stateDir, "shut");
  await lab.script("guard", `[ -e ${shut} ] && { echo '{"code": 50, "msg": "daemon is down"}'; exit 1; }; exit 0`);
  await writeFile(shut, "");
  await lab.writeConfig("10-a.conflist", { cniVersion: "1.1.0", name: "net", plugins: [{ type: "guard" }] });
  const network = await lab.open({ limits: { statusAgeMs: 20 } });
  expect(network.readiness()).toMatchObject({
    reason: "NetworkPluginNotReady",
    message: expect.stringContaining("failed STATUS with code 50: daemon is down"),
  });

  await rm(shut);

  await eventually("it is ready", () => network.readiness().ready);
  const [call] = await lab.calls();
  expect(call?.command).toBe("STATUS");
  expect(JSON.parse(call?.stdin ?? "")).toEqual({ cniVersion: "1.1.0", name: "net", type: "guard" });
});

test("a STATUS that hangs is killed at its time limit, and run again", async () => {
  const hang = join(lab.stateDir, "hang");
  await lab.script("mute", `[ -e ${hang} ] && exec sleep 600; exit 0`);
  await writeFile(hang, "");
  await lab.writeConfig("10-a.conflist", { cniVersion: "1.1.0", name: "net", plugins: [{ type: "mute" }] });
  const network = await lab.open({ limits: { statusMs: 200, statusAgeMs: 20 } });
  await eventually("it reports why", () =>
    JSON.stringify(network.readiness()).includes("did not finish STATUS within 0.2 s"),
  );
  await rm(hang);
  await eventually("it is ready", () => network.readiness().ready);
});

test("STATUS is not polled while the readiness is not queried", async () => {
  await lab.script("guard", "exit 0");
  await lab.writeConfig("10-a.conflist", { cniVersion: "1.1.0", name: "net", plugins: [{ type: "guard" }] });
  await lab.open({ limits: { statusAgeMs: 10 } });
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect((await lab.calls()).length).toBe(1);
});
