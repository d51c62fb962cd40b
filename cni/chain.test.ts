// What plugins get from each command in each version of the spec, as seen by script plugins.

import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { addressResult, eventually, type Lab, openLab, type ScriptCall } from "./testing/lab.ts";
import type { Network, PodNetwork } from "./types.ts";

const never = new AbortController().signal;
let lab: Lab;

beforeEach(async () => {
  lab = await openLab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

async function open(config: object): Promise<Network> {
  await lab.writeConfig("10-a.conflist", config);
  return await lab.open({ binDirs: [lab.binDir, "/nowhere"] });
}

async function giver(type: string, address: string): Promise<void> {
  await lab.script(type, `[ $CNI_COMMAND = ADD ] && echo '${addressResult(address)}'; exit 0`);
}

function configOf(call: ScriptCall | undefined): Record<string, unknown> {
  return JSON.parse(call?.stdin ?? "");
}

test("ADD passes each result on, DEL gets the last one, and each plugin gets its own configuration", async () => {
  await giver("one", "10.1.1.1/24");
  await giver("two", "10.2.2.2/24");
  const network = await open({
    cniVersion: "1.0.0",
    name: "net",
    plugins: [{ type: "one", mtu: 1400 }, { type: "two" }],
  });
  const pod = await lab.pod();

  expect((await network.attach(pod, never)).ips).toEqual(["10.2.2.2"]);
  await network.detach(pod.sandboxId);

  const calls = await lab.calls();
  expect(calls.map(({ type, command }) => `${type} ${command}`)).toEqual(["one ADD", "two ADD", "two DEL", "one DEL"]);
  const first = JSON.parse(addressResult("10.1.1.1/24"));
  const last = JSON.parse(addressResult("10.2.2.2/24"));
  const one = { cniVersion: "1.0.0", name: "net", type: "one", mtu: 1400 };
  const two = { cniVersion: "1.0.0", name: "net", type: "two" };
  expect(calls.map(configOf)).toEqual([
    one,
    { ...two, prevResult: first },
    { ...two, prevResult: last },
    { ...one, prevResult: last },
  ]);
});

test("the environment contains the parameters and a PATH, nothing from the daemon's", async () => {
  await giver("one", "10.1.1.1/24");
  const network = await open({ cniVersion: "1.0.0", name: "net", plugins: [{ type: "one" }] });
  const pod = await lab.pod();
  process.env.LD_PRELOAD_OF_TEST = "evil.so";
  await network.attach(pod, never);
  delete process.env.LD_PRELOAD_OF_TEST;

  const [call] = await lab.calls();
  const environment = new Map(call?.environment);
  // Set by the shell itself.
  for (const name of ["PWD", "OLDPWD", "SHLVL", "_"]) environment.delete(name);
  expect(Object.fromEntries(environment)).toEqual({
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: pod.sandboxId,
    CNI_NETNS: pod.netns,
    CNI_IFNAME: "eth0",
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=${pod.sandboxId};K8S_POD_UID=${pod.uid}`,
    CNI_PATH: `${lab.binDir}:/nowhere`,
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  });
});

const rich: Partial<PodNetwork> = {
  portMappings: [
    { hostPort: 8080, containerPort: 80, protocol: "tcp", hostIp: "127.0.0.1" },
    { hostPort: 0, containerPort: 81, protocol: "udp", hostIp: "" },
  ],
  dns: { servers: ["10.0.0.10"], searches: ["svc.local"], options: ["ndots:5"] },
  cgroupParent: "/kubepods/pod1",
  annotations: new Map([
    ["kubernetes.io/ingress-bandwidth", "1.5Mi"],
    ["kubernetes.io/egress-bandwidth", "2e6"],
    ["__proto__", "polluted"],
  ]),
};

test("runtimeConfig contains only what the plugin's capabilities request", async () => {
  await giver("asks", "10.1.1.1/24");
  await giver("silent", "10.1.1.1/24");
  const capabilities = {
    portMappings: true,
    dns: true,
    bandwidth: true,
    cgroupPath: true,
    ips: true,
    mac: true,
    "io.kubernetes.cri.pod-annotations": true,
  };
  const network = await open({
    cniVersion: "1.0.0",
    name: "net",
    plugins: [
      { type: "asks", capabilities },
      { type: "silent", capabilities: { portMappings: false } },
    ],
  });
  await network.attach(await lab.pod(rich), never);

  const [asks, silent] = await lab.calls();
  expect(configOf(asks)).toEqual({
    cniVersion: "1.0.0",
    name: "net",
    type: "asks",
    runtimeConfig: {
      portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp", hostIP: "127.0.0.1" }],
      dns: { servers: ["10.0.0.10"], searches: ["svc.local"], options: ["ndots:5"] },
      bandwidth: { ingressRate: 1572864, ingressBurst: 2147483647, egressRate: 2000000, egressBurst: 2147483647 },
      cgroupPath: "/kubepods/pod1",
      "io.kubernetes.cri.pod-annotations": JSON.parse(
        `{"kubernetes.io/ingress-bandwidth":"1.5Mi","kubernetes.io/egress-bandwidth":"2e6","__proto__":"polluted"}`,
      ),
    },
  });
  expect(configOf(silent)).not.toHaveProperty("runtimeConfig");
  expect(configOf(silent)).not.toHaveProperty("capabilities");
});

test.each(["fast", "10Q", "-5M", "0", "999", "2P", "1e99", ""])("a bandwidth of %j is rejected", async (value) => {
  await giver("one", "10.1.1.1/24");
  const network = await open({ cniVersion: "1.0.0", name: "net", plugins: [{ type: "one" }] });
  const annotations = new Map([["kubernetes.io/ingress-bandwidth", value]]);
  await expect(network.attach(await lab.pod({ annotations }), never)).rejects.toMatchObject({
    name: "badBandwidth",
    code: "InvalidArgument",
  });
  expect(await lab.calls()).toEqual([]);
  expect(network.leases()).toEqual([]);
});

test.each([{ name: "a;IP=10.0.0.1" }, { namespace: "a=b" }, { uid: "x\n" }])(
  "%j cannot inject another argument",
  async (overrides) => {
    await giver("one", "10.1.1.1/24");
    const network = await open({ cniVersion: "1.0.0", name: "net", plugins: [{ type: "one" }] });
    await expect(network.attach(await lab.pod(overrides), never)).rejects.toMatchObject({ name: "badArgument" });
    expect(await lab.calls()).toEqual([]);
  },
);

test.each(["../../etc/cron.d/x", "", "-x", "a b"])("sandbox id %j is rejected", async (sandboxId) => {
  await giver("one", "10.1.1.1/24");
  const network = await open({ cniVersion: "1.0.0", name: "net", plugins: [{ type: "one" }] });
  const pod = await lab.pod();
  await expect(network.attach({ ...pod, sandboxId }, never)).rejects.toMatchObject({ name: "badSandboxId" });
  expect(await lab.calls()).toEqual([]);
});

test.each([[""], [null]])(
  "a result with version %j gets the configuration's version, so that the next plugin accepts it",
  async (cniVersion) => {
    const result = { ...JSON.parse(addressResult("10.1.1.1/24")), cniVersion };
    await lab.script("one", `[ $CNI_COMMAND = ADD ] && echo '${JSON.stringify(result)}'; exit 0`);
    await lab.install("portmap");
    const network = await open({ cniVersion: "1.0.0", name: "net", plugins: [{ type: "one" }, { type: "portmap" }] });
    const pod = await lab.pod();
    expect(await network.attach(pod, never)).toMatchObject({ ips: ["10.1.1.1"] });
    await network.detach(pod.sandboxId);
    expect(network.leases()).toEqual([]);
  },
);

test("a DEL of version 0.3.1 gets no prevResult", async () => {
  await giver("one", "10.1.1.1/24");
  const network = await open({ cniVersion: "0.3.1", name: "net", plugins: [{ type: "one" }] });
  const pod = await lab.pod();
  await network.attach(pod, never);
  await network.detach(pod.sandboxId);
  const calls = await lab.calls();
  expect(calls.map(({ command }) => command)).toEqual(["ADD", "DEL"]);
  expect(configOf(calls[1])).not.toHaveProperty("prevResult");
});

test("DEL gets an empty CNI_NETNS if the namespace no longer exists, as in the spec and the reference plugins", async () => {
  await giver("one", "10.1.1.1/24");
  const network = await open({ cniVersion: "1.0.0", name: "net", plugins: [{ type: "one" }] });
  const pod = await lab.pod();
  await network.attach(pod, never);
  await lab.removeNamespace(pod);
  // The plain file that an unmounted pin leaves.
  await writeFile(pod.netns, "");
  onTestFinished(() => rm(pod.netns, { force: true }));
  await network.detach(pod.sandboxId);
  const [add, del] = await lab.calls();
  expect(add?.environment.get("CNI_NETNS")).toBe(pod.netns);
  expect(del?.environment.get("CNI_NETNS")).toBe("");
});

test("collectGarbage detaches dead sandboxes and passes the live ones to plugins of version 1.1.0", async () => {
  await giver("one", "10.1.1.1/24");
  const network = await open({ cniVersion: "1.1.0", name: "net", plugins: [{ type: "one" }] });
  const [living, dead] = [await lab.pod(), await lab.pod()];
  await network.attach(living, never);
  await network.attach(dead, never);

  await network.collectGarbage(new Set([living.sandboxId]));

  expect(network.leases()).toEqual([{ sandboxId: living.sandboxId, state: "attached" }]);
  const calls = await lab.calls();
  const [del, gc] = calls.slice(-2);
  expect(del?.environment.get("CNI_CONTAINERID")).toBe(dead.sandboxId);
  expect(del?.command).toBe("DEL");
  expect(gc?.command).toBe("GC");
  expect(gc?.environment.has("CNI_CONTAINERID")).toBe(false);
  expect(configOf(gc)).toEqual({
    cniVersion: "1.1.0",
    name: "net",
    type: "one",
    "cni.dev/valid-attachments": [{ containerID: living.sandboxId, ifname: "eth0" }],
    "cni.dev/attachments": [{ containerID: living.sandboxId, ifname: "eth0" }],
  });
});

test("querying the readiness soon after a STATUS does not run it again", async () => {
  await giver("one", "10.1.1.1/24");
  const network = await open({ cniVersion: "1.1.0", name: "net", plugins: [{ type: "one" }] });
  await eventually("the first answer has arrived", () => network.readiness().ready);
  const asked = (await lab.calls()).length;
  for (let looks = 0; looks < 20; looks += 1) {
    expect(network.readiness()).toEqual({ ready: true });
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect((await lab.calls()).length).toBe(asked);
});

test("GC lists no pod of another network, and none whose DEL is still owed", async () => {
  const refuse = `[ -e ${lab.stateDir}/shut ] && { echo '{"code": 100, "msg": "shut"}'; exit 1; }`;
  const bodies = { ADD: `echo '${addressResult("10.1.1.1/24")}'`, DEL: `${refuse}; :` };
  await lab.script("one", `case $CNI_COMMAND in ADD) ${bodies.ADD};; DEL) ${bodies.DEL};; esac; exit 0`);
  const other = await open({ cniVersion: "1.1.0", name: "other", plugins: [{ type: "one" }] });
  const [elsewhere, living, owing] = [await lab.pod(), await lab.pod(), await lab.pod()];
  await other.attach(elsewhere, never);
  await other.close();
  const network = await open({ cniVersion: "1.1.0", name: "net", plugins: [{ type: "one" }] });
  await network.attach(living, never);
  await network.attach(owing, never);
  await writeFile(join(lab.stateDir, "shut"), "");
  await network.detach(owing.sandboxId);

  await network.collectGarbage(new Set([elsewhere.sandboxId, living.sandboxId]));

  const gc = (await lab.calls()).filter(({ command }) => command === "GC");
  expect(gc.map((call) => configOf(call)["cni.dev/valid-attachments"])).toEqual([
    [{ containerID: living.sandboxId, ifname: "eth0" }],
  ]);
});

test("once the daemon shuts down, no further plugin of a chain is started", async () => {
  await lab.script("one", `[ $CNI_COMMAND = ADD ] && { sleep 0.2; echo '${addressResult("10.1.1.1/24")}'; }; exit 0`);
  await giver("two", "10.1.1.2/24");
  const network = await open({ cniVersion: "1.0.0", name: "net", plugins: [{ type: "one" }, { type: "two" }] });
  const attaching = network.attach(await lab.pod(), never);
  attaching.catch(() => undefined);
  await eventually("the first plugin runs", async () => (await lab.calls()).length === 1);
  await network.close();
  await expect(attaching).rejects.toMatchObject({ name: "stopping" });
  expect((await lab.calls()).map(({ type, command }) => `${type} ${command}`)).toEqual(["one ADD"]);
});

test("disableGC is honored", async () => {
  await giver("one", "10.1.1.1/24");
  const network = await open({ cniVersion: "1.1.0", disableGC: true, name: "net", plugins: [{ type: "one" }] });
  await network.collectGarbage(new Set());
  expect((await lab.calls()).map(({ command }) => command)).toEqual(["STATUS"]);
});

test("an attach waits for a running GC, whose list could not include it", async () => {
  await lab.script(
    "one",
    `case $CNI_COMMAND in ADD) echo '${addressResult("10.1.1.1/24")}';; GC) sleep 0.3; echo > $call/done;; esac`,
  );
  const network = await open({ cniVersion: "1.1.0", name: "net", plugins: [{ type: "one" }] });
  const collecting = network.collectGarbage(new Set());
  await new Promise((resolve) => setTimeout(resolve, 50));
  let collected = false;
  void collecting.then(() => {
    collected = true;
  });
  await network.attach(await lab.pod(), never);
  expect(collected).toBe(true);
});

test("GC and DEL exclude each other, as the specification requires", async () => {
  const at = join(lab.stateDir, "at");
  const work = `echo $CNI_COMMAND begins >> ${at}; sleep 0.4; echo $CNI_COMMAND ends >> ${at}`;
  await lab.script("one", `case $CNI_COMMAND in ADD) echo '${addressResult("10.1.1.1/24")}';; DEL|GC) ${work};; esac`);
  const network = await open({ cniVersion: "1.1.0", name: "net", plugins: [{ type: "one" }] });
  const pods = [await lab.pod(), await lab.pod()];
  for (const pod of pods) await network.attach(pod, never);
  const [before, after] = pods.map(({ sandboxId }) => sandboxId);
  const detaching = network.detach(before ?? "");
  const collecting = network.collectGarbage(new Set(pods.map(({ sandboxId }) => sandboxId)));
  await eventually("GC has begun", async () => (await readFile(at, "utf8").catch(() => "")).includes("GC begins"));
  await network.detach(after ?? "");
  await Promise.all([detaching, collecting]);
  const order = (await readFile(at, "utf8")).trim().split("\n");
  expect(order).toEqual(["DEL", "GC", "DEL"].flatMap((command) => [`${command} begins`, `${command} ends`]));
});

test("an ADD that hangs delays a GC, but no other pod", async () => {
  await lab.script(
    "one",
    `case $CNI_COMMAND in ADD) case $CNI_ARGS in *K8S_POD_NAME=stuck*) sleep 60;; esac; echo '${addressResult("10.1.1.1/24")}';; esac`,
  );
  const network = await open({ cniVersion: "1.1.0", name: "net", plugins: [{ type: "one" }] });
  const asked = async () => (await lab.calls()).filter(({ command }) => command === "GC").length;
  const release = new AbortController();
  const stuck = network.attach(await lab.pod({ name: "stuck" }), release.signal);
  stuck.catch(() => undefined);
  const collecting = network.collectGarbage(new Set());
  await network.attach(await lab.pod(), AbortSignal.timeout(3000));
  expect(await asked()).toBe(0);
  release.abort();
  await expect(stuck).rejects.toMatchObject({ name: "cancelled" });
  await collecting;
  expect(await asked()).toBe(1);
});

test("operations on one sandbox are serialized, those on several run concurrently", async () => {
  await lab.script(
    "one",
    `[ $CNI_COMMAND = ADD ] && { sleep 1; echo '${addressResult("10.1.1.1/24")}'; }; date +%s%N > $call/end; exit 0`,
  );
  const network = await open({ cniVersion: "1.0.0", name: "net", plugins: [{ type: "one" }] });
  const pods = await Promise.all([lab.pod(), lab.pod(), lab.pod(), lab.pod()]);
  const from = performance.now();
  await Promise.all(pods.map((pod) => network.attach(pod, never)));
  expect(performance.now() - from).toBeLessThan(3500);

  const [pod] = [await lab.pod()];
  const order: string[] = [];
  await Promise.all([
    network.attach(pod, never).then(() => order.push("attached")),
    network.detach(pod.sandboxId).then(() => order.push("detached")),
  ]);
  expect(order).toEqual(["attached", "detached"]);
  expect(network.leases().map(({ sandboxId }) => sandboxId)).not.toContain(pod.sandboxId);
});
