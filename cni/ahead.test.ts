// Plugins started before their turn: which ones, what happens if their turn never comes, and that the order is kept.

import { copyFile, open, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makerOf } from "./maker.ts";
import { addressResult, debianPlugins, eventually, type Lab, openLab } from "./testing/lab.ts";

const never = new AbortController().signal;
const portmap = { type: "portmap", capabilities: { portMappings: true } };
let lab: Lab;

beforeEach(async () => {
  lab = await openLab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

/** The names of the plugins that have a process running for a sandbox. */
async function running(sandboxId: string): Promise<string[]> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const names = await Promise.all(
    ids.map(async (id) => {
      const environment = (await readFile(`/proc/${id}/environ`, "latin1").catch(() => "")).split("\0");
      if (!environment.includes(`CNI_CONTAINERID=${sandboxId}`)) return "";
      return (await readFile(`/proc/${id}/comm`, "utf8").catch(() => "")).trim();
    }),
  );
  return names.filter((name) => name !== "").sort();
}

async function known(...types: readonly string[]): Promise<void> {
  for (const type of types) await eventually(`${type} is known`, () => makerOf(join(lab.binDir, type)) !== undefined);
}

/** A chain whose first plugin's ADD runs these lines once portmap has been started ahead for its sandbox, as `$pid`. */
async function scriptBeforePortmap(add: string) {
  await lab.install("portmap");
  const waiting = `
    for process in $(grep -lzx "CNI_CONTAINERID=$CNI_CONTAINERID" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do
      [ "$(cat /proc/$process/comm 2>/dev/null)" = portmap ] && pid=$process
    done`;
  await lab.script(
    "script",
    `[ $CNI_COMMAND = ADD ] || exit 0; until [ "$pid" ]; do ${waiting}; sleep 0.02; done; ${add}`,
  );
  const plugins = [{ type: "script" }, portmap];
  await lab.writeConfig("10-a.conflist", { cniVersion: "1.0.0", name: "ahead", plugins });
  await known("portmap");
  return { network: await lab.open(), pod: await lab.pod() };
}

test("the next plugin is already running during an ADD, and gets its result", async () => {
  await lab.install("portmap");
  const go = join(lab.stateDir, "go");
  const wait = `until [ -e ${go} ]; do sleep 0.02; done`;
  await lab.script("slow", `[ $CNI_COMMAND = ADD ] && { ${wait}; echo '${addressResult("10.1.1.1/24")}'; }; exit 0`);
  await lab.script("last", "[ $CNI_COMMAND = ADD ] && cat $call/stdin; exit 0");
  await lab.writeConfig("10-a.conflist", {
    cniVersion: "1.0.0",
    name: "ahead",
    plugins: [{ type: "slow" }, portmap, { type: "last" }],
  });
  await known("portmap");
  const network = await lab.open();
  const pod = await lab.pod();
  const attaching = network.attach(pod, never);
  await eventually("portmap waits", async () => (await running(pod.sandboxId)).includes("portmap"));
  expect((await lab.calls()).map(({ type }) => type)).toEqual(["slow"]);
  await writeFile(go, "");
  // "last" prints its configuration: the result inside it does not count as its own.
  await expect(attaching).rejects.toMatchObject({ name: "noAddress" });
  const last = (await lab.calls()).find(({ type }) => type === "last");
  expect(JSON.parse(last?.stdin ?? "").prevResult).toMatchObject(JSON.parse(addressResult("10.1.1.1/24")));
  expect(await running(pod.sandboxId)).toEqual([]);
});

test("a plugin whose turn never comes is killed, and no DEL is owed to it", async () => {
  const { network, pod } = await scriptBeforePortmap("exit 1");
  await expect(network.attach(pod, never)).rejects.toMatchObject({ name: "pluginDied" });
  await eventually("portmap is gone", async () => (await running(pod.sandboxId)).length === 0);
  expect(network.leases()).toEqual([]);
});

test("the first plugin waits for the namespace, and is killed if that cannot be created", async () => {
  await lab.install("bridge", "host-local");
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork());
  await known("bridge");
  const network = await lab.open();
  const pod = await lab.pod();
  const made = Promise.withResolvers<void>();
  const attaching = network.attach(pod, never, made.promise);
  await eventually("bridge waits", async () => (await running(pod.sandboxId)).includes("bridge"));
  expect(await lab.reserved()).toEqual([]);
  made.resolve();
  expect((await attaching).ips).toEqual([`${lab.prefix}.2`]);
  await network.detach(pod.sandboxId);

  const failed = Promise.withResolvers<void>();
  const refused = network.attach(pod, never, failed.promise);
  await eventually("bridge waits", async () => (await running(pod.sandboxId)).includes("bridge"));
  failed.reject(new Error("no namespace"));
  await expect(refused).rejects.toThrow("no namespace");
  await eventually("bridge is gone", async () => (await running(pod.sandboxId)).length === 0);
  expect(network.leases()).toEqual([]);
  expect(await lab.traces()).toEqual([]);
});

test("a plugin that dies while waiting fails the ADD with a clear error", async () => {
  const { network, pod } = await scriptBeforePortmap(`kill -9 $pid; echo '${addressResult("10.1.1.1/24")}'`);
  await expect(network.attach(pod, never)).rejects.toThrow(/portmap.*ADD.*was killed by SIGKILL/);
  expect(network.leases()).toEqual([]);
});

test("a plugin whose file is removed before its turn still runs, and its DEL fails", async () => {
  const { network, pod } = await scriptBeforePortmap(
    `rm ${lab.binDir}/portmap; echo '${addressResult("10.1.1.1/24")}'`,
  );
  expect((await network.attach(pod, never)).ips).toEqual(["10.1.1.1"]);
  await eventually("portmap is gone", async () => (await running(pod.sandboxId)).length === 0);
  await network.detach(pod.sandboxId);
  expect(network.leases()).toMatchObject([{ state: "detach-failed", lastError: expect.stringContaining("portmap") }]);
});

test.each([[false], [true]])("a plugin that is being installed is waited for (started ahead: %j)", async (ahead) => {
  await lab.script("first", `[ $CNI_COMMAND = ADD ] && echo '${addressResult("10.9.9.9/24")}'; exit 0`);
  const file = join(lab.binDir, "portmap");
  await copyFile(join(debianPlugins, "portmap"), file);
  await lab.writeConfig("10-a.conflist", {
    cniVersion: "1.0.0",
    name: "net",
    plugins: [{ type: "first" }, portmap],
  });
  const network = await lab.open();
  if (ahead) await known("portmap");
  const pod = await lab.pod();
  const installing = await open(file, "r+");
  const attaching = network.attach(pod, never);
  await new Promise((resolve) => setTimeout(resolve, 300));
  await installing.close();
  expect(await attaching).toMatchObject({ ips: ["10.9.9.9"] });
  await network.detach(pod.sandboxId);
  expect(network.leases()).toEqual([]);
});
