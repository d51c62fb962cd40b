// keelson-chain: several plugins in one process do the same as one by one, and how a failure of one affects the others.

import { afterAll, beforeAll, expect, test } from "vitest";
import { oursSanitized as directory, type Lab, openLab } from "./lab.ts";

let lab: Lab;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.remove());

const cniVersion = "1.1.0";
const runtimeConfig = { portMappings: [{ hostPort: 8081, containerPort: 80, protocol: "tcp" }] };

function pluginsOf(name: string, subnet: string) {
  const ipam = { type: "host-local", dataDir: lab.leases, ranges: [[{ subnet }]] };
  const bridge = { cniVersion, name, type: "bridge", bridge: name, isGateway: true, ipMasq: true, ipam };
  return { bridge, portmap: { cniVersion, name, type: "portmap", runtimeConfig } };
}

function chain(name: string, ...plugins: readonly object[]) {
  return { cniVersion, name, type: "keelson-chain", plugins };
}

const rules = () => lab.host("nft", "list", "ruleset");
const links = () => lab.host("ip", "-o", "link", "show", "type", "veth");

/** A result without what differs between two pods. */
function shape(result: object): unknown {
  const addresses = /"(mac|name|sandbox|address)":"[^"]*"/g;
  return JSON.parse(JSON.stringify(result).replaceAll(addresses, '"$1":""'));
}

test("does the same as its plugins run separately: each way can check and delete what the other created", async () => {
  const { bridge, portmap } = pluginsOf("ch1", "10.31.0.0/24");
  const both = chain("ch1", bridge, portmap);
  const [together, singly] = [lab.pod(), lab.pod()];
  const of = { together: { pod: together, directory }, singly: { pod: singly, directory } };

  const first = await lab.done("keelson-chain", "ADD", both, of.together);
  const previous = await lab.done("bridge", "ADD", bridge, of.singly);
  const second = await lab.done("portmap", "ADD", { ...portmap, prevResult: previous }, of.singly);
  expect(shape(first)).toEqual(shape(second));
  expect(lab.leased("ch1")).toEqual(["10.31.0.2", "10.31.0.3"]);

  await lab.done("keelson-chain", "CHECK", { ...both, prevResult: second }, of.singly);
  await lab.done("keelson-chain", "STATUS", both, { directory });
  for (const plugin of [bridge, portmap])
    await lab.done(plugin.type, "CHECK", { ...plugin, prevResult: first }, of.together);

  for (const plugin of [portmap, bridge])
    await lab.done(plugin.type, "DEL", { ...plugin, prevResult: first }, of.together);
  expect(rules()).not.toContain(together.id);
  await lab.done("keelson-chain", "DEL", { ...both, prevResult: second }, of.singly);
  expect(rules()).not.toContain(singly.id);
  expect(lab.leased("ch1")).toEqual([]);
  expect(links()).toBe("");
});

test("a failed ADD names its plugin, and DEL with the invalid configuration removes what others created", async () => {
  const { bridge, portmap } = pluginsOf("ch2", "10.32.0.0/24");
  const both = chain("ch2", bridge, { ...portmap, snat: "yes" });
  const of = { pod: lab.pod(), directory };
  expect(await lab.call("keelson-chain", "ADD", both, of)).toMatchObject({
    exitCode: 1,
    output: { cniVersion, code: 7, msg: expect.stringMatching(/^portmap: .*snat/) },
  });
  expect(lab.leased("ch2")).toEqual(["10.32.0.2"]);
  await lab.done("keelson-chain", "DEL", both, of);
  expect(lab.leased("ch2")).toEqual([]);
  expect(links()).toBe("");
});

test("DEL calls every plugin, in reverse order, and reports the first failure", async () => {
  const { bridge, portmap } = pluginsOf("ch3", "10.33.0.0/24");
  const { bridge: broken } = pluginsOf("ch3", "10.33.0.0/24");
  broken.ipam.dataDir = "/proc/self/cmdline";
  const of = { pod: lab.pod(), directory };
  await lab.done("keelson-chain", "ADD", chain("ch3", bridge, portmap), of);
  const { exitCode, output } = await lab.call("keelson-chain", "DEL", chain("ch3", bridge, portmap, broken), of);
  expect({ exitCode, output }).toMatchObject({ exitCode: 1, output: { msg: expect.stringMatching(/^bridge: /) } });
  expect(lab.leased("ch3")).toEqual([]);
  expect(rules()).not.toContain(of.pod.id);
});

test("GC runs for every plugin with the valid attachments", async () => {
  const { bridge, portmap } = pluginsOf("ch4", "10.34.0.0/24");
  const both = chain("ch4", bridge, portmap);
  const [kept, lost] = [lab.pod(), lab.pod()];
  for (const pod of [kept, lost]) await lab.done("keelson-chain", "ADD", both, { pod, directory });
  const valid = [{ containerID: kept.id, ifname: "eth0" }];
  await lab.done("keelson-chain", "GC", { ...both, "cni.dev/valid-attachments": valid }, { directory });
  expect(lab.leased("ch4")).toEqual(["10.34.0.2"]);
  await lab.done("keelson-chain", "DEL", both, { pod: kept, directory });
  await lab.done("keelson-chain", "DEL", both, { pod: lost, directory });
});

test.each([
  ["no plugins", {}, "plugins: a chain needs at least one plugin"],
  ["plugins that are not a list", { plugins: { type: "bridge" } }, "plugins"],
  ["a plugin that is not an object", { plugins: [7] }, 'plugins[0].type: "" is not a plugin'],
  ["an unknown plugin", { plugins: [{ type: "/bin/sh" }] }, 'plugins[0].type: "/bin/sh" is not a plugin'],
  ["itself", { plugins: [{ type: "keelson-chain", plugins: [] }] }, 'plugins[0].type: "keelson-chain" is not a plugin'],
  ["an unknown key", { plugins: [{ type: "loopback" }], mtu: 1400 }, "mtu"],
])("refuses %s by name", async (_, more, words) => {
  const config = { cniVersion, name: "ch5", type: "keelson-chain", ...more };
  const { exitCode, output } = await lab.call("keelson-chain", "ADD", config, { pod: lab.pod(), directory });
  expect({ exitCode, msg: output.msg }).toEqual({ exitCode: 1, msg: expect.stringContaining(words) });
});
