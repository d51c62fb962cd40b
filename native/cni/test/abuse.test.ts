// What crashes, retries, strangers and wrong configurations do to our plugins. Under the sanitizers wherever time is of no
// matter.

import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Lab, openLab, ours, oursSanitized, type Pod } from "./lab.ts";

let lab: Lab;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.remove());

const directory = oursSanitized;

function bridge(name: string, subnet: string, more: object = {}) {
  const ipam = { type: "host-local", dataDir: lab.leases, ranges: [[{ subnet }]] };
  return { cniVersion: "1.1.0", name, type: "bridge", bridge: name, isGateway: true, ipMasq: true, ipam, ...more };
}

const portMappings = [{ hostPort: 80, containerPort: 80, protocol: "TCP" }];
function portmap(name: string, more: object = {}) {
  return { cniVersion: "1.1.0", name, type: "portmap", runtimeConfig: { portMappings }, ...more };
}

const linksInside = (pod: Pod) =>
  JSON.parse(lab.inside(pod, "ip", "-j", "link")).map((link: { ifname: string }) => link.ifname);
const ports = (name: string): string[] =>
  JSON.parse(lab.host("ip", "-j", "link", "show", "type", "veth"))
    .filter((link: { master?: string }) => link.master === name)
    .map((link: { ifname: string }) => link.ifname);
const rules = () => lab.host("nft", "list", "ruleset");

describe("crashes and retries", () => {
  test("killed at any moment, an ADD is undone by DEL, and the next one is clean", async () => {
    const config = bridge("cr1", "10.1.0.0/24");
    const pod = lab.pod();
    let late = 0;
    for (let round = 0; round < 24; round += 1) {
      const env = {
        CNI_COMMAND: "ADD",
        CNI_CONTAINERID: pod.id,
        CNI_NETNS: pod.netns,
        CNI_IFNAME: "eth0",
        CNI_PATH: ours,
      };
      const host = lab.hostNetns;
      const child = spawn("nsenter", [`--net=${host}`, path.join(ours, "bridge")], {
        env,
        stdio: ["pipe", "ignore", "ignore"],
      });
      child.stdin.on("error", () => undefined);
      child.stdin.end(JSON.stringify(config));
      const closed = new Promise((resolve) => child.once("close", resolve));
      await delay(1 + round / 4);
      if (!child.kill("SIGKILL")) late += 1;
      await closed;
      // The second DEL has nothing left to do.
      for (let i = 0; i < 2; i += 1) await lab.done("bridge", "DEL", config, { pod });
      expect(linksInside(pod)).toEqual(["lo"]);
    }
    expect(late).toBeLessThan(24);
    expect(lab.leased("cr1")).toEqual([]);
    expect(ports("cr1")).toEqual([]);
    expect(rules()).not.toContain(pod.id.slice(0, 20));
    const prevResult = await lab.done("bridge", "ADD", config, { pod, directory });
    await lab.done("bridge", "CHECK", { ...config, prevResult }, { pod, directory });
    await lab.done("bridge", "DEL", config, { pod, directory });
  });

  test("a second ADD fails and leaves the first as it was", async () => {
    const config = bridge("cr2", "10.2.0.0/24");
    const pod = lab.pod();
    const prevResult = await lab.done("bridge", "ADD", config, { pod, directory });
    const again = await lab.call("bridge", "ADD", config, { pod, directory });
    expect(again).toMatchObject({ exitCode: 1, output: { msg: expect.stringContaining("already exists") } });
    const alone = await lab.call("host-local", "ADD", config, { pod, directory });
    expect(alone.output.msg).toContain("duplicate allocation is not allowed");
    await lab.done("bridge", "CHECK", { ...config, prevResult }, { pod, directory });
    expect(ports("cr2")).toHaveLength(1);
    await lab.done("bridge", "DEL", config, { pod, directory });
  });

  test("a bridge that the first ADD made and left without ports serves the next one, and keeps its address", async () => {
    const config = bridge("cr6", "10.6.0.0/24");
    const device = () => JSON.parse(lab.host("ip", "-j", "link", "show", "cr6"))[0];
    const nowhere = { ...config, ipam: { ...config.ipam, dataDir: "/proc/nowhere" } };
    expect(await lab.call("bridge", "ADD", nowhere, { pod: lab.pod(), directory })).toMatchObject({ exitCode: 1 });
    expect(device().address).toBe("00:00:00:00:00:00");

    const [first, second] = [lab.pod(), lab.pod()];
    await lab.done("bridge", "ADD", config, { pod: first, directory });
    const { address } = device();
    await lab.done("bridge", "ADD", config, { pod: second, directory });
    for (const pod of [first, second]) {
      await lab.done("bridge", "DEL", config, { pod, directory });
      expect(device().address).toBe(address);
    }
  });

  test("where the namespace is gone, DEL gives back the lease and deletes the rules", async () => {
    const config = bridge("cr3", "10.3.0.0/24");
    for (const forget of [false, true]) {
      const pod = lab.pod();
      const prevResult = await lab.done("bridge", "ADD", config, { pod, directory });
      await lab.done("portmap", "ADD", portmap("cr3", { prevResult }), { pod, directory });
      lab.removeNamespace(pod);
      const environment = forget ? { CNI_NETNS: "" } : {};
      for (let i = 0; i < 2; i += 1) {
        await lab.done("portmap", "DEL", portmap("cr3", { prevResult }), { pod, directory, environment });
        await lab.done("bridge", "DEL", { ...config, prevResult }, { pod, directory, environment });
      }
      expect(lab.leased("cr3")).toEqual([]);
      expect(rules()).not.toContain(pod.id);
    }
  });

  test("many at once: each has an address of its own, on one bridge, and all go", async () => {
    const config = bridge("cr4", "10.4.0.0/28");
    const pods = Array.from({ length: 12 }, () => lab.pod());
    const results = await Promise.all(pods.map((pod) => lab.done("bridge", "ADD", config, { pod })));
    const addresses = results.map(({ ips }) => (ips as { address: string }[])[0]?.address);
    expect(new Set(addresses).size).toBe(12);
    expect(ports("cr4")).toHaveLength(12);
    expect(rules().match(/goto masq_checks/g)).toHaveLength(1);
    await Promise.all(
      pods.map(async (pod, i) => {
        const prevResult = results[i];
        await lab.done("portmap", "ADD", portmap("cr4", { prevResult }), { pod });
        await lab.done("portmap", "DEL", portmap("cr4", { prevResult }), { pod });
        await lab.done("bridge", "DEL", config, { pod });
      }),
    );
    expect(lab.leased("cr4")).toEqual([]);
    expect(ports("cr4")).toEqual([]);
    for (const pod of pods) expect(rules()).not.toContain(pod.id);
  });

  test("GC takes down what nobody has any more, and only in its own network", async () => {
    const config = bridge("cr5", "10.5.0.0/24");
    const other = bridge("cr6", "10.6.0.0/24");
    const [kept, lost, others] = [lab.pod(), lab.pod(), lab.pod()];
    for (const pod of [kept, lost]) await lab.done("bridge", "ADD", config, { pod });
    await lab.done("bridge", "ADD", other, { pod: others });
    expect(await lab.call("bridge", "GC", config, { directory })).toMatchObject({ exitCode: 1, output: { code: 7 } });
    const valid = { "cni.dev/valid-attachments": [{ containerID: kept.id, ifname: "eth0" }] };
    await lab.done("bridge", "GC", { ...config, ...valid }, { directory });
    expect(lab.leased("cr5")).toHaveLength(1);
    expect(lab.leased("cr6")).toHaveLength(1);
    expect([kept, lost, others].map(({ id }) => rules().includes(id.slice(0, 20)))).toEqual([true, false, true]);
    // So libcni writes that there are none.
    await lab.done("bridge", "GC", { ...config, "cni.dev/valid-attachments": null }, { directory });
    expect(lab.leased("cr5")).toEqual([]);
    expect(lab.leased("cr6")).toHaveLength(1);
  });
});

describe("strangers", () => {
  test("files in the lease directory that are no leases are left alone, and keep their addresses", async () => {
    const config = bridge("st1", "10.11.0.0/28");
    const at = (name: string) => path.join(lab.leases, "st1", name);
    mkdirSync(at(""), { recursive: true });
    writeFileSync(at("10.11.0.2"), "");
    writeFileSync(at("10.11.0.3"), Buffer.alloc(1 << 20, 7));
    mkdirSync(at("10.11.0.4"));
    symlinkSync("/etc/passwd", at("10.11.0.5"));
    writeFileSync(at("last_reserved_ip.0"), "no address\n");
    writeFileSync(at("README"), "not of ours");
    const pod = lab.pod();
    expect(await lab.done("bridge", "ADD", config, { pod, directory })).toMatchObject({
      ips: [{ address: "10.11.0.6/28" }],
    });
    expect(readFileSync(at("10.11.0.6"), "utf8")).toBe(`${pod.id}\r\neth0`);
    await lab.done("bridge", "DEL", config, { pod, directory });
    await lab.done("bridge", "GC", { ...config, "cni.dev/valid-attachments": [] }, { directory });
    expect(lab.leased("st1")).toEqual(["10.11.0.2", "10.11.0.3", "10.11.0.4", "10.11.0.5", "README"]);
  });

  test("a range that is full is an error, and the pod is as it was", async () => {
    const config = bridge("st2", "10.12.0.0/30");
    const [first, second] = [lab.pod(), lab.pod()];
    await lab.done("bridge", "ADD", config, { pod: first, directory });
    const full = await lab.call("bridge", "ADD", config, { pod: second, directory });
    expect(full.output.msg).toBe("no IP addresses available in range set: 10.12.0.1-10.12.0.2");
    expect(linksInside(second)).toEqual(["lo"]);
    expect(ports("st2")).toHaveLength(1);
    await lab.done("bridge", "DEL", config, { pod: first, directory });
    await lab.done("bridge", "ADD", config, { pod: second, directory });
  });

  test("addresses on request, and what of them cannot be had", async () => {
    const ask = (...ips: string[]) => bridge("st3", "10.13.0.0/24", { runtimeConfig: { ips } });
    const pod = lab.pod();
    for (const [ips, message] of [
      [["10.13.0.1"], "is subnet's gateway"],
      [["10.13.0.7", "10.99.0.1"], "failed to allocate all requested IPs: 10.99.0.1"],
      [["10.13.0.7/240"], "invalid IP address"],
    ] as const) {
      const { exitCode, output } = await lab.call("bridge", "ADD", ask(...ips), { pod, directory });
      expect({ exitCode, output }).toMatchObject({ exitCode: 1, output: { msg: expect.stringContaining(message) } });
      expect(lab.leased("st3")).toEqual([]);
    }
    const result = await lab.done("bridge", "ADD", ask("10.13.0.7/24"), { pod, directory });
    expect(result).toMatchObject({ ips: [{ address: "10.13.0.7/24" }] });
    const taken = await lab.call("bridge", "ADD", ask("10.13.0.7"), { pod: lab.pod(), directory });
    expect(taken.output.msg).toContain("is not available");
  });

  test("interfaces that are there already: of the pod's name, of the bridge's, and another gateway's address", async () => {
    const config = bridge("st4", "10.14.0.0/24");
    const pod = lab.pod();
    lab.inside(pod, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer0");
    expect((await lab.call("bridge", "ADD", config, { pod, directory })).output.msg).toContain("already exists");
    expect(linksInside(pod).sort()).toEqual(["eth0", "lo", "peer0"]);

    lab.host("ip", "link", "add", "st5", "type", "veth", "peer", "name", "st5p");
    const wrong = await lab.call("bridge", "ADD", bridge("st5", "10.15.0.0/24"), { pod: lab.pod(), directory });
    expect(wrong.output.msg).toBe('"st5" already exists but is not a bridge');

    const free = lab.pod();
    lab.host("ip", "addr", "add", "10.14.0.9/16", "dev", "st4");
    const refused = await lab.call("bridge", "ADD", config, { pod: free, directory });
    expect(refused.output.msg).toContain('"st4" already has an IP address different from 10.14.0.1/24');
    expect(lab.leased("st4")).toEqual([]);
    await lab.done("bridge", "ADD", { ...config, forceAddress: true }, { pod: free, directory });
    const [{ addr_info: addresses }] = JSON.parse(lab.host("ip", "-j", "-4", "addr", "show", "dev", "st4"));
    expect(addresses).toMatchObject([{ local: "10.14.0.1", prefixlen: 24 }]);
  });

  test.each(["bridge", "ptp"])(
    "a pod that gave the interface's name to its loopback keeps no address of %s",
    async (type) => {
      const config = {
        ...bridge("st7", "10.17.0.0/24", { ipMasq: true }),
        type,
        ...(type === "ptp" ? { bridge: "", isGateway: false } : {}),
      };
      const tricks = [
        "ip link set eth0 down; ip link set eth0 name was; ip link set lo down; ip link set lo name eth0",
        "ip link set eth0 down; ip link set eth0 name was; ip link property add dev lo altname eth0",
      ];
      for (const trick of tricks) {
        const pod = lab.pod();
        await lab.done(type, "ADD", config, { pod, directory });
        lab.inside(pod, "sh", "-c", trick);
        await lab.done(type, "DEL", config, { pod, directory });
        expect(lab.leased("st7")).toEqual([]);
        expect(lab.host("nft", "list", "ruleset")).not.toContain(pod.id.slice(0, 40));
      }
    },
  );

  test("a namespace that is the host's, or none, is refused", async () => {
    const config = bridge("st6", "10.16.0.0/24");
    for (const CNI_NETNS of [lab.hostNetns, "/etc/passwd", "/nowhere"]) {
      const answer = await lab.call("bridge", "ADD", config, { pod: lab.pod(), directory, environment: { CNI_NETNS } });
      expect(answer).toMatchObject({ exitCode: 1, output: { code: 8 }, stderr: "" });
    }
    const del = await lab.call("bridge", "DEL", config, { pod: lab.pod(), environment: { CNI_NETNS: lab.hostNetns } });
    expect(del.output).toMatchObject({ code: 8 });
  });
});

describe("configurations", () => {
  test("that are no configuration at all", async () => {
    const pod = lab.pod();
    const valid = JSON.stringify(bridge("ga1", "10.21.0.0/24"));
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
    expect(linksInside(pod)).toEqual(["lo"]);
  });

  test("that ask for what there is not are refused by name, but taken down all the same", async () => {
    const base = bridge("ga2", "10.22.0.0/24");
    const asks: readonly (readonly [string, object, string])[] = [
      ["bridge", { ...base, vlan: 100 }, "vlan"],
      ["bridge", { ...base, macspoofchk: true }, "macspoofchk"],
      ["bridge", { ...base, ipMasqBackend: "iptables" }, "ipMasqBackend iptables"],
      ["bridge", { ...base, somethingNew: { deep: 1 } }, "somethingNew"],
      ["bridge", { ...base, ipam: { ...base.ipam, pool: "x" } }, "ipam.pool"],
      ["portmap", portmap("ga2", { backend: "iptables", prevResult: {} }), "backend iptables"],
      ["portmap", portmap("ga2", { externalSetMarkChain: "KUBE-MARK-MASQ", prevResult: {} }), "externalSetMarkChain"],
      ["portmap", portmap("ga2", { conditionsV4: ["-m", "mark"], prevResult: {} }), 'conditionsV4: "-m"'],
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
    // The ADD was another program's: a lease of that other plugin would be left behind, and nobody would know.
    const added = { ...dhcp, prevResult: { cniVersion: "1.1.0" } };
    expect((await lab.call("bridge", "DEL", added, { pod, directory })).output).toMatchObject({ code: 2 });
    await lab.done("bridge", "STATUS", { ...base, vlan: 0, macspoofchk: false, vlanTrunk: [] }, { directory });
    expect(lab.leased("ga2")).toEqual([]);
  });

  test("that have what the field's plugins leave unread: kubenet's and minikube's addIf, Debian's Documentation", async () => {
    const Documentation = "/usr/share/doc/containernetworking-plugins/";
    const base = bridge("ga4", "10.24.0.0/24", { addIf: "true", Documentation });
    const config = { ...base, ipam: { ...base.ipam, Documentation } };
    const pod = lab.pod();
    const prevResult = await lab.done("bridge", "ADD", config, { pod, directory });
    await lab.done("portmap", "ADD", portmap("ga4", { Documentation, prevResult }), { pod, directory });
    await lab.done("portmap", "DEL", portmap("ga4", { Documentation }), { pod, directory });
    await lab.done("bridge", "DEL", config, { pod, directory });
  });

  test("that are written wrong are refused, and a DEL has nothing to take down", async () => {
    const base = bridge("ga3", "10.23.0.0/24");
    const { ipam } = base;
    const wrong: readonly (readonly [string, object])[] = [
      ["bridge", { ...base, mtu: "1500" }],
      ["bridge", { ...base, isGateway: "true" }],
      ["bridge", { ...base, ipMasq: "true" }],
      ["bridge", { ...base, ipam: { ...ipam, type: ["host-local"] } }],
      ["bridge", { ...base, ipam: { ...ipam, dataDir: 7 } }],
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
    expect(linksInside(pod)).toEqual(["lo"]);
    // It may have been written well when the pod was added.
    await lab.done("bridge", "ADD", base, { pod, directory });
    await lab.done("bridge", "DEL", { ...base, mtu: "1500", ipMasq: "true" }, { pod, directory });
    expect([linksInside(pod), lab.leased("ga3")]).toEqual([["lo"], []]);
    expect(rules()).not.toContain(pod.id.slice(0, 20));
  });

  test("that come late are waited for, and those that begin and do not end are not", async () => {
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
    // It has waited for as long.
    late.stdin.end(text);
    expect(await late.ended).toEqual([0, ""]);
  }, 30_000);

  test("names as long as they may be, and longer", async () => {
    const config = bridge("ga3", "10.23.0.0/24");
    const pod = { ...lab.pod(), id: "x".repeat(250) };
    const prevResult = await lab.done("bridge", "ADD", config, { pod, directory });
    const refused = await lab.call("portmap", "ADD", portmap("ga3", { prevResult }), { pod, directory });
    expect(refused.output).toMatchObject({ code: 4, msg: expect.stringContaining("128") });
    await lab.done("bridge", "DEL", config, { pod, directory });
    expect(rules()).not.toContain("xxx");
    for (const CNI_IFNAME of ["a-name-of-sixteen", "a/b", "..", "a b"])
      expect(
        (await lab.call("bridge", "ADD", config, { pod, directory, environment: { CNI_IFNAME } })).output.code,
      ).toBe(4);
    for (const CNI_CONTAINERID of ["../x", "a b", ""])
      expect(
        (await lab.call("bridge", "ADD", config, { pod, directory, environment: { CNI_CONTAINERID } })).output.code,
      ).toBe(4);
  });

  test("hundreds of ports, and a result of thousands of addresses", async () => {
    const pod = lab.pod();
    const many = Array.from({ length: 800 }, (_, i) => ({ hostPort: 1000 + i, containerPort: 80, protocol: "udp" }));
    const ips = Array.from({ length: 20_000 }, (_, i) => ({ address: `10.24.${i >> 8}.${i & 255}/16`, interface: 1 }));
    const interfaces = [{ name: "br" }, { name: "eth0", sandbox: pod.netns, mac: "00:11:22:33:44:55" }];
    const prevResult = { cniVersion: "1.1.0", interfaces, ips };
    const config = portmap("ga4", {
      prevResult,
      runtimeConfig: { portMappings: many },
      conditionsV4: ["!", "-s", "10.9.0.0/16"],
    });
    expect(await lab.done("portmap", "ADD", config, { pod, directory })).toEqual(prevResult);
    expect(rules()).toContain("ip saddr != 10.9.0.0/16 udp dport 1799 dnat to 10.24.0.0:80");
    await lab.done("portmap", "CHECK", config, { pod, directory });
    await lab.done("portmap", "DEL", config, { pod, directory });
    expect(rules()).not.toContain(pod.id);
  });

  const subnets = (count: number) => Array.from({ length: count }, (_, i) => `10.${128 + (i >> 8)}.${i & 255}.0/24`);

  test("hundreds of routes of a pod", async () => {
    const routes = subnets(400).map((dst) => ({ dst }));
    const ipam = { type: "host-local", dataDir: lab.leases, ranges: [[{ subnet: "10.26.0.0/24" }]], routes };
    const config = bridge("ga6", "", { ipam });
    const pod = lab.pod();
    await lab.done("bridge", "ADD", config, { pod, directory });
    expect(lab.inside(pod, "ip", "route").match(/via 10.26.0.1/g)).toHaveLength(400);
    await lab.done("bridge", "DEL", config, { pod, directory });
  });

  test("a thousand nodes, one of which cannot be reached: the others' routes are there all the same", async () => {
    lab.host("ip", "link", "add", "ga7", "type", "veth", "peer", "name", "ga7-peer");
    for (const end of ["ga7", "ga7-peer"]) lab.host("ip", "link", "set", end, "up");
    lab.host("ip", "addr", "add", "192.0.2.1/24", "dev", "ga7");
    const routes = subnets(1000).map((dst) => ({ dst, gw: "192.0.2.7" }));
    const prevResult = { cniVersion: "1.1.0", ips: [{ address: "10.27.0.2/24" }] };
    const config = { cniVersion: "1.1.0", name: "ga7", type: "host-gw", routes, prevResult };
    const lost = { ...config, routes: [{ dst: "10.28.0.0/16", gw: "198.51.100.1" }, ...routes] };
    const pod = lab.pod();
    expect((await lab.call("host-gw", "ADD", lost, { pod, directory })).output.msg).toBe(
      "add the route to 10.28.0.0/16 by 198.51.100.1: Network is unreachable",
    );
    expect(lab.host("ip", "route").match(/via 192.0.2.7 dev ga7/g)).toHaveLength(1000);
    await lab.done("host-gw", "ADD", config, { pod, directory: ours });
  });

  test("duplicate address detection is over when ADD answers", async () => {
    const ipam = {
      type: "host-local",
      dataDir: lab.leases,
      ranges: [[{ subnet: "fd25::/64" }]],
      routes: [{ dst: "::/0" }],
    };
    const pod = lab.pod();
    // A second or two, at the usual pace.
    lab.inside(
      pod,
      "sh",
      "-c",
      "cd /proc/sys/net/ipv6; echo 20 >neigh/default/retrans_time_ms; echo 0 >conf/default/router_solicitation_delay",
    );
    await lab.done("bridge", "ADD", bridge("ga5", "", { ipam, enabledad: true }), { pod, directory });
    const shown = lab.inside(pod, "ip", "-6", "addr", "show", "dev", "eth0", "scope", "global");
    expect(shown).toContain("fd25::2/64");
    expect(shown).not.toMatch(/tentative|nodad/);
  });
});
