// How our plugins handle configurations that are malformed, invalid, late or large, with sanitizers wherever time does
// not matter.

import { spawn } from "node:child_process";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Lab, masqueradingBridge, openLab, ours, oursSanitized, portmapConfig } from "./lab.ts";

let lab: Lab;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.remove());

const directory = oursSanitized;

test("malformed configurations are refused with the spec's error codes", async () => {
  const pod = lab.pod();
  const valid = JSON.stringify(masqueradingBridge(lab, "ga1", "10.21.0.0/24"));
  const wrong: readonly (readonly [string, number])[] = [
    ["", 6],
    ["[]", 6],
    [valid.slice(0, -1), 6],
    ["[".repeat(100_000), 6],
    ["\u0000\u0001", 6],
    [valid.replace("1.1.0", "0.2.0"), 1],
    [valid.replace("1.1.0", "9.9.9"), 1],
    [valid.replace('"name":"ga1"', '"name":"../../etc"'), 7],
    [valid.replace('"name":"ga1"', '"name":""'), 7],
    [valid.replace('"isGateway":true', '"isGateway":"yes"'), 7],
    [valid.replace("10.21.0.0/24", "10.21.0.1/24"), 7],
    [valid.replace("10.21.0.0/24", "10.21.0.0/31"), 7],
    [valid.replace("10.21.0.0/24", "10.21.0.0/99"), 7],
    [valid.replace('"bridge":"ga1"', '"bridge":"a-name-too-long-1"'), 7],
    [`${valid}${" ".repeat(9 << 20)}`, 5],
  ];
  for (const [text, code] of wrong) {
    const answer = await lab.call("bridge", "ADD", text, { pod, directory });
    expect([text.slice(0, 300), answer]).toMatchObject([
      text.slice(0, 300),
      { exitCode: 1, output: { code }, stderr: "" },
    ]);
  }
  expect(lab.links(pod)).toEqual(["lo"]);
});

test("unsupported settings are refused by name, but DEL still cleans up", async () => {
  const base = masqueradingBridge(lab, "ga2", "10.22.0.0/24");
  const asks: readonly (readonly [string, object, string])[] = [
    ["bridge", { ...base, vlan: 100 }, "vlan"],
    ["bridge", { ...base, macspoofchk: true }, "macspoofchk"],
    ["bridge", { ...base, ipMasqBackend: "iptables" }, "ipMasqBackend iptables"],
    ["bridge", { ...base, somethingNew: { deep: 1 } }, "somethingNew"],
    ["bridge", { ...base, ipam: { ...base.ipam, pool: "x" } }, "ipam.pool"],
    ["portmap", portmapConfig("ga2", { backend: "iptables", prevResult: {} }), "backend iptables"],
    [
      "portmap",
      portmapConfig("ga2", { externalSetMarkChain: "KUBE-MARK-MASQ", prevResult: {} }),
      "externalSetMarkChain",
    ],
    ["portmap", portmapConfig("ga2", { conditionsV4: ["-m", "mark"], prevResult: {} }), 'conditionsV4: "-m"'],
  ];
  const pod = lab.pod();
  for (const [plugin, config, name] of asks) {
    const refused = { exitCode: 1, output: { code: 2, msg: expect.stringContaining(name) } };
    expect(await lab.call(plugin, "ADD", config, { pod, directory })).toMatchObject(refused);
    expect(await lab.call(plugin, "STATUS", config, { directory })).toMatchObject(refused);
    await lab.done(plugin, "DEL", config, { pod, directory });
  }
  const dhcp = { ...base, ipam: { type: "dhcp" } };
  expect((await lab.call("bridge", "ADD", dhcp, { pod, directory })).output).toMatchObject({ code: 2 });
  await lab.done("bridge", "DEL", dhcp, { pod, directory });
  // Another program did the ADD: a lease of the other plugin would be leaked silently.
  const added = { ...dhcp, prevResult: { cniVersion: "1.1.0" } };
  expect((await lab.call("bridge", "DEL", added, { pod, directory })).output).toMatchObject({ code: 2 });
  await lab.done("bridge", "STATUS", { ...base, vlan: 0, macspoofchk: false, vlanTrunk: [] }, { directory });
  expect(lab.leased("ga2")).toEqual([]);
});

test("keys that no plugin reads are ignored: addIf of kubenet and minikube, Documentation of Debian", async () => {
  const Documentation = "/usr/share/doc/containernetworking-plugins/";
  const base = masqueradingBridge(lab, "ga4", "10.24.0.0/24", { addIf: "true", Documentation });
  const config = { ...base, ipam: { ...base.ipam, Documentation } };
  const pod = lab.pod();
  const prevResult = await lab.done("bridge", "ADD", config, { pod, directory });
  await lab.done("portmap", "ADD", portmapConfig("ga4", { Documentation, prevResult }), { pod, directory });
  await lab.done("portmap", "DEL", portmapConfig("ga4", { Documentation }), { pod, directory });
  await lab.done("bridge", "DEL", config, { pod, directory });
});

test("invalid configurations are refused, and DEL succeeds with nothing to remove", async () => {
  const base = masqueradingBridge(lab, "ga3", "10.23.0.0/24");
  const { ipam } = base;
  const wrong: readonly (readonly [string, object])[] = [
    ["bridge", { ...base, mtu: "1500" }],
    ["bridge", { ...base, isGateway: "true" }],
    ["bridge", { ...base, ipMasq: "true" }],
    ["bridge", { ...base, ipam: { ...ipam, type: ["host-local"] } }],
    ["bridge", { ...base, ipam: { ...ipam, dataDir: 7 } }],
    ["bridge", { ...base, ipam: { ...ipam, routes: [{ dst: "0.0.0.0/0", gw: "10.23.0.1\0.5" }] } }],
    ["ptp", { ...base, type: "ptp", mtu: "1500" }],
    ["ptp", { ...base, type: "ptp", ipam: undefined }],
  ];
  const pod = lab.pod();
  for (const [plugin, config] of wrong) {
    expect([config, (await lab.call(plugin, "ADD", config, { pod, directory })).output.code]).not.toEqual([
      config,
      undefined,
    ]);
    await lab.done(plugin, "DEL", config, { pod, directory });
    const collected = { ...config, "cni.dev/valid-attachments": [] };
    await lab.done(plugin, "GC", collected, { pod, directory });
  }
  expect(lab.links(pod)).toEqual(["lo"]);
  // The configuration may have been valid when the pod was added.
  await lab.done("bridge", "ADD", base, { pod, directory });
  await lab.done("bridge", "DEL", { ...base, mtu: "1500", ipMasq: "true" }, { pod, directory });
  expect([lab.links(pod), lab.leased("ga3")]).toEqual([["lo"], []]);
  expect(lab.rules()).not.toContain(pod.id.slice(0, 20));
});

test("a configuration that arrives late is accepted, one that starts but does not end times out", async () => {
  const started = (begin: string) => {
    const environment = { CNI_COMMAND: "STATUS", CNI_PATH: directory };
    const child = spawn(path.join(directory, "loopback"), { env: environment, stdio: ["pipe", "pipe", "inherit"] });
    child.stdin.on("error", () => undefined);
    if (begin !== "") child.stdin.write(begin);
    let said = "";
    child.stdout.on("data", (chunk: Buffer) => (said += chunk));
    const ended = new Promise<[number | null, string]>((resolve) =>
      child.once("close", (code) => resolve([code, said])),
    );
    return { stdin: child.stdin, ended };
  };
  const text = JSON.stringify({ cniVersion: "1.1.0", name: "ga5", type: "loopback" });
  const late = started("");
  const stuck = started(text.slice(0, 10));
  const [code, said] = await stuck.ended;
  expect([code, JSON.parse(said)]).toMatchObject([1, { code: 5, msg: expect.stringContaining("within 10 seconds") }]);
  // This one has been waiting equally long.
  late.stdin.end(text);
  expect(await late.ended).toEqual([0, ""]);
}, 30_000);

test("names of the maximum length are accepted, longer and invalid ones refused", async () => {
  const config = masqueradingBridge(lab, "ga3", "10.23.0.0/24");
  const pod = { ...lab.pod(), id: "x".repeat(250) };
  const prevResult = await lab.done("bridge", "ADD", config, { pod, directory });
  const refused = await lab.call("portmap", "ADD", portmapConfig("ga3", { prevResult }), { pod, directory });
  expect(refused.output).toMatchObject({ code: 4, msg: expect.stringContaining("128") });
  await lab.done("bridge", "DEL", config, { pod, directory });
  expect(lab.rules()).not.toContain("xxx");
  for (const CNI_IFNAME of ["a-name-of-sixteen", "a/b", "..", "a b"])
    expect((await lab.call("bridge", "ADD", config, { pod, directory, environment: { CNI_IFNAME } })).output.code).toBe(
      4,
    );
  for (const CNI_CONTAINERID of ["../x", "a b", ""])
    expect(
      (await lab.call("bridge", "ADD", config, { pod, directory, environment: { CNI_CONTAINERID } })).output.code,
    ).toBe(4);
});

test("hundreds of ports and a result with thousands of addresses work", async () => {
  const pod = lab.pod();
  const many = Array.from({ length: 800 }, (_, i) => ({ hostPort: 1000 + i, containerPort: 80, protocol: "udp" }));
  const ips = Array.from({ length: 20_000 }, (_, i) => ({ address: `10.24.${i >> 8}.${i & 255}/16`, interface: 1 }));
  const interfaces = [{ name: "br" }, { name: "eth0", sandbox: pod.netns, mac: "00:11:22:33:44:55" }];
  const prevResult = { cniVersion: "1.1.0", interfaces, ips };
  const config = portmapConfig("ga4", {
    prevResult,
    runtimeConfig: { portMappings: many },
    conditionsV4: ["!", "-s", "10.9.0.0/16"],
  });
  expect(await lab.done("portmap", "ADD", config, { pod, directory })).toEqual(prevResult);
  expect(lab.rules()).toContain("ip saddr != 10.9.0.0/16 udp dport 1799 dnat to 10.24.0.0:80");
  await lab.done("portmap", "CHECK", config, { pod, directory });
  await lab.done("portmap", "DEL", config, { pod, directory });
  expect(lab.rules()).not.toContain(pod.id);
});

const subnets = (count: number) => Array.from({ length: count }, (_, i) => `10.${128 + (i >> 8)}.${i & 255}.0/24`);

test("hundreds of routes in a pod work", async () => {
  const routes = subnets(400).map((dst) => ({ dst }));
  const ipam = { type: "host-local", dataDir: lab.leases, ranges: [[{ subnet: "10.26.0.0/24" }]], routes };
  const config = masqueradingBridge(lab, "ga6", "", { ipam });
  const pod = lab.pod();
  await lab.done("bridge", "ADD", config, { pod, directory });
  expect(lab.inside(pod, "ip", "route").match(/via 10.26.0.1/g)).toHaveLength(400);
  await lab.done("bridge", "DEL", config, { pod, directory });
});

test("with a thousand nodes, one of them unreachable, the others' routes are still added", async () => {
  lab.host("ip", "link", "add", "ga7", "type", "veth", "peer", "name", "ga7-peer");
  for (const end of ["ga7", "ga7-peer"]) lab.host("ip", "link", "set", end, "up");
  lab.host("ip", "addr", "add", "192.0.2.1/24", "dev", "ga7");
  const routes = subnets(1000).map((dst) => ({ dst, gw: "192.0.2.7" }));
  const prevResult = { cniVersion: "1.1.0", ips: [{ address: "10.27.0.2/24" }] };
  const config = { cniVersion: "1.1.0", name: "ga7", type: "host-gw", routes, prevResult };
  const lost = { ...config, routes: [{ dst: "10.28.0.0/16", gw: "198.51.100.1" }, ...routes] };
  const pod = lab.pod();
  expect((await lab.call("host-gw", "ADD", lost, { pod, directory })).output.msg).toBe(
    "add the route to 10.28.0.0/16 via 198.51.100.1: Network is unreachable",
  );
  expect(lab.host("ip", "route").match(/via 192.0.2.7 dev ga7/g)).toHaveLength(1000);
  await lab.done("host-gw", "ADD", config, { pod, directory: ours });
});

test("duplicate address detection is complete when ADD returns", async () => {
  const ipam = {
    type: "host-local",
    dataDir: lab.leases,
    ranges: [[{ subnet: "fd25::/64" }]],
    routes: [{ dst: "::/0" }],
  };
  const pod = lab.pod();
  // It takes a second or two with the default settings.
  lab.inside(
    pod,
    "sh",
    "-c",
    "cd /proc/sys/net/ipv6; echo 20 >neigh/default/retrans_time_ms; echo 0 >conf/default/router_solicitation_delay",
  );
  await lab.done("bridge", "ADD", masqueradingBridge(lab, "ga5", "", { ipam, enabledad: true }), { pod, directory });
  const shown = lab.inside(pod, "ip", "-6", "addr", "show", "dev", "eth0", "scope", "global");
  expect(shown).toContain("fd25::2/64");
  expect(shown).not.toMatch(/tentative|nodad/);
});
