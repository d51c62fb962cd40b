// What a lease looks like on disk, and what is read from it after a power cut.

import { readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { flushesOf } from "../native/testing/flushes.ts";
import { addressResult, type Lab, openLab, run } from "./testing/lab.ts";

const never = new AbortController().signal;
let lab: Lab;

beforeEach(async () => {
  lab = await openLab();
  await lab.install("bridge", "host-local", "portmap");
  await lab.writeConfig(
    "10-lab.conflist",
    lab.bridgeNetwork([{ type: "portmap", capabilities: { portMappings: true } }]),
  );
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

async function attached() {
  const network = await lab.open();
  const pod = await lab.pod({ portMappings: [{ protocol: "tcp", containerPort: 80, hostPort: 28080, hostIp: "" }] });
  await network.attach(pod, never);
  const path = join(lab.stateDir, "cni", `${pod.sandboxId}.json`);
  return { network, pod, path, text: await readFile(path, "utf8") };
}

test("the result is the second line, which the next daemon reads", async () => {
  const { network, pod, text } = await attached();
  const [first = "", second = "", ...rest] = text.split("\n");
  expect(JSON.parse(first)).toMatchObject({ format: 1, state: "attaching", target: { containerId: pod.sandboxId } });
  expect(JSON.parse(second)).toMatchObject({ result: { ips: [{ address: `${lab.prefix}.2/24` }] } });
  expect(rest).toEqual([""]);
  await network.close();
  const next = await lab.open();
  expect(next.leases()).toEqual([{ sandboxId: pod.sandboxId, state: "attached" }]);
  expect(await next.inspect(pod.sandboxId)).toBeUndefined();
  await next.detach(pod.sandboxId);
  expect(await lab.traces()).toEqual([]);
  expect(await readdir(join(lab.stateDir, "cni"))).not.toContain(`${pod.sandboxId}.json`);
});

test("the next daemon notices a missing interface or namespace, but no missing address: gVisor removes those", async () => {
  const { network, pod } = await attached();
  await network.close();
  const missing = async () => {
    const next = await lab.open();
    const said = await next.inspect(pod.sandboxId);
    await next.close();
    return said;
  };
  const inside = (...words: readonly string[]) => run("ip", "-n", basename(pod.netns), ...words);
  await inside("address", "flush", "dev", "eth0");
  expect(await missing()).toBeUndefined();
  await inside("link", "delete", "eth0");
  expect(await missing()).toBe(`${pod.netns} no longer has an interface eth0`);
  await lab.removeNamespace(pod);
  expect(await missing()).toBe(`its network namespace ${pod.netns} no longer exists`);
  await (await lab.open()).detach(pod.sandboxId);
});

test("the address and the rules are released, whatever part of the result a power cut leaves", async () => {
  for (const left of [
    (first: string) => `${first}\n`,
    (first: string, second: string) => `${first}\n${second.slice(0, second.length / 2)}`,
    (first: string, second: string) => `${first}\n${"\0".repeat(second.length)}`,
    (first: string, second: string) => `${first}\n{\n${second.slice(2)}`,
  ]) {
    const { network, pod, path, text } = await attached();
    const [first = "", second = ""] = text.split("\n");
    await network.close();
    await writeFile(path, left(first, second));
    const next = await lab.open();
    expect(next.leases()).toEqual([{ sandboxId: pod.sandboxId, state: "attaching" }]);
    await next.collectGarbage(new Set());
    expect(next.leases()).toEqual([]);
    expect(await lab.reserved()).toEqual([]);
    expect(await lab.traces()).toEqual([]);
    await next.close();
  }
});

test("a lease with an incomplete first line belongs to no pod: it is logged and removed", async () => {
  const { network, pod, path, text } = await attached();
  await network.detach(pod.sandboxId);
  await network.close();
  const [first = ""] = text.split("\n");
  const cut = ["", "{", first.slice(0, first.length / 2), "\0".repeat(first.length)];
  for (const [index, left] of cut.entries()) {
    await writeFile(path, left);
    const next = await lab.open();
    expect(next.leases()).toEqual([]);
    expect(lab.logged.filter((line) => line.includes("removed: writing it was interrupted"))).toHaveLength(index + 1);
    expect(await readdir(join(lab.stateDir, "cni"))).toEqual([]);
    await next.close();
  }
});

test("if flushing a lease fails, the attach is undone, although its plugins have run by then", async () => {
  const network = await lab.open();
  const pod = await lab.pod();
  // It accepts writes but cannot be flushed: EINVAL, fsync(2).
  await symlink("/dev/null", join(lab.stateDir, "cni", `${pod.sandboxId}.json`));
  await expect(network.attach(pod, never)).rejects.toMatchObject({ name: "leaseNotWritten" });
  expect(network.leases()).toEqual([]);
  expect(await lab.reserved()).toEqual([]);
  expect(await lab.traces()).toEqual([]);
  await network.attach(pod, never);
});

test("a new lease is flushed with its directory, a later version with its content only", async () => {
  const directory = join(lab.stateDir, "leases");
  const lease = {
    state: "attaching",
    network: { name: "lab", cniVersion: "1.0.0", disableGc: false, plugins: [] },
    target: { containerId: "c1", netns: "", interfaceName: "eth0", args: "", capabilities: {} },
    owed: [],
  };
  const flushed = await flushesOf(`
    import { openLeaseStore } from "./cni/lease.ts";
    const leases = await openLeaseStore(${JSON.stringify(directory)}, { damaged: console.error, unfinished: console.error });
    await (await leases.add(${JSON.stringify(lease)})).flushed;
    await leases.save(${JSON.stringify(lease)});`);
  const file = join(directory, "c1.json");
  expect(flushed).toEqual([file, directory, `${file}.new`]);
});

test("a lease of an older daemon, with the result in its only line, is still read", async () => {
  const { network, pod, path, text } = await attached();
  const [first = "", second = ""] = text.split("\n");
  await network.close();
  await writeFile(path, JSON.stringify({ ...JSON.parse(first), state: "attached", ...JSON.parse(second) }));
  const next = await lab.open();
  expect(next.leases()).toEqual([{ sandboxId: pod.sandboxId, state: "attached" }]);
  expect(await next.inspect(pod.sandboxId)).toBeUndefined();
  await next.detach(pod.sandboxId);
  expect(await lab.traces()).toEqual([]);
});

test("if the result cannot be written, the attach is undone", async () => {
  const answer = addressResult("10.1.1.1/24");
  await lab.script("eats", `[ $CNI_COMMAND = ADD ] && { rm ${lab.stateDir}/cni/*.json; echo '${answer}'; }; exit 0`);
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([{ type: "eats" }]));
  const network = await lab.open();
  await expect(network.attach(await lab.pod(), never)).rejects.toMatchObject({ name: "leaseNotWritten" });
  expect(network.leases()).toEqual([]);
});
