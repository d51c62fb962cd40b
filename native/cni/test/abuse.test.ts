// Crashes, retries and conflicts with others, with sanitizers wherever time does not matter.

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Lab, masqueradingBridge, openLab, ours, oursSanitized, portmapConfig } from "./lab.ts";

let lab: Lab;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.remove());

const directory = oursSanitized;

const ports = (name: string): string[] =>
  JSON.parse(lab.host("ip", "-j", "link", "show", "type", "veth"))
    .filter((link: { master?: string }) => link.master === name)
    .map((link: { ifname: string }) => link.ifname);

describe("crashes and retries", () => {
  test("killed at any moment, an ADD is undone by DEL, and the next one is clean", async () => {
    const config = masqueradingBridge(lab, "cr1", "10.1.0.0/24");
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
      // The second DEL must succeed with nothing left to do.
      for (let i = 0; i < 2; i += 1) await lab.done("bridge", "DEL", config, { pod });
      expect(lab.links(pod)).toEqual(["lo"]);
    }
    expect(late).toBeLessThan(24);
    expect(lab.leased("cr1")).toEqual([]);
    expect(ports("cr1")).toEqual([]);
    expect(lab.rules()).not.toContain(pod.id.slice(0, 20));
    const prevResult = await lab.done("bridge", "ADD", config, { pod, directory });
    await lab.done("bridge", "CHECK", { ...config, prevResult }, { pod, directory });
    await lab.done("bridge", "DEL", config, { pod, directory });
  });

  test("a second ADD fails and does not affect the first", async () => {
    const config = masqueradingBridge(lab, "cr2", "10.2.0.0/24");
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

  test("a bridge that a failed ADD left without ports works for the next one, and keeps its MAC address", async () => {
    const config = masqueradingBridge(lab, "cr6", "10.6.0.0/24");
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

  test("if the namespace no longer exists, DEL still releases the lease and deletes the rules", async () => {
    const config = masqueradingBridge(lab, "cr3", "10.3.0.0/24");
    for (const forget of [false, true]) {
      const pod = lab.pod();
      const prevResult = await lab.done("bridge", "ADD", config, { pod, directory });
      await lab.done("portmap", "ADD", portmapConfig("cr3", { prevResult }), { pod, directory });
      lab.removeNamespace(pod);
      const environment = forget ? { CNI_NETNS: "" } : {};
      for (let i = 0; i < 2; i += 1) {
        await lab.done("portmap", "DEL", portmapConfig("cr3", { prevResult }), { pod, directory, environment });
        await lab.done("bridge", "DEL", { ...config, prevResult }, { pod, directory, environment });
      }
      expect(lab.leased("cr3")).toEqual([]);
      expect(lab.rules()).not.toContain(pod.id);
    }
  });

  test("concurrent ADDs each get their own address on one bridge, and concurrent DELs remove everything", async () => {
    const config = masqueradingBridge(lab, "cr4", "10.4.0.0/28");
    const pods = Array.from({ length: 12 }, () => lab.pod());
    const results = await Promise.all(pods.map((pod) => lab.done("bridge", "ADD", config, { pod })));
    const addresses = results.map(({ ips }) => (ips as { address: string }[])[0]?.address);
    expect(new Set(addresses).size).toBe(12);
    expect(ports("cr4")).toHaveLength(12);
    expect(lab.rules().match(/goto masq_checks/g)).toHaveLength(1);
    await Promise.all(
      pods.map(async (pod, i) => {
        const prevResult = results[i];
        await lab.done("portmap", "ADD", portmapConfig("cr4", { prevResult }), { pod });
        await lab.done("portmap", "DEL", portmapConfig("cr4", { prevResult }), { pod });
        await lab.done("bridge", "DEL", config, { pod });
      }),
    );
    expect(lab.leased("cr4")).toEqual([]);
    expect(ports("cr4")).toEqual([]);
    for (const pod of pods) expect(lab.rules()).not.toContain(pod.id);
  });

  test("GC removes what is no longer valid, and only in its own network", async () => {
    const config = masqueradingBridge(lab, "cr5", "10.5.0.0/24");
    const other = masqueradingBridge(lab, "cr6", "10.6.0.0/24");
    const [kept, lost, others] = [lab.pod(), lab.pod(), lab.pod()];
    for (const pod of [kept, lost]) await lab.done("bridge", "ADD", config, { pod });
    await lab.done("bridge", "ADD", other, { pod: others });
    expect(await lab.call("bridge", "GC", config, { directory })).toMatchObject({ exitCode: 1, output: { code: 7 } });
    const valid = { "cni.dev/valid-attachments": [{ containerID: kept.id, ifname: "eth0" }] };
    await lab.done("bridge", "GC", { ...config, ...valid }, { directory });
    expect(lab.leased("cr5")).toHaveLength(1);
    expect(lab.leased("cr6")).toHaveLength(1);
    expect([kept, lost, others].map(({ id }) => lab.rules().includes(id.slice(0, 20)))).toEqual([true, false, true]);
    // This is how libcni writes an empty list.
    await lab.done("bridge", "GC", { ...config, "cni.dev/valid-attachments": null }, { directory });
    expect(lab.leased("cr5")).toEqual([]);
    expect(lab.leased("cr6")).toHaveLength(1);
  });
});

describe("conflicts", () => {
  test("files in the lease directory that are not leases are not touched, and reserve their addresses", async () => {
    const config = masqueradingBridge(lab, "st1", "10.11.0.0/28");
    const at = (name: string) => path.join(lab.leases, "st1", name);
    mkdirSync(at(""), { recursive: true });
    writeFileSync(at("10.11.0.2"), "");
    writeFileSync(at("10.11.0.3"), Buffer.alloc(1 << 20, 7));
    mkdirSync(at("10.11.0.4"));
    symlinkSync("/etc/passwd", at("10.11.0.5"));
    // Nothing ever writes to it.
    execFileSync("mkfifo", [at("10.11.0.6")]);
    writeFileSync(at("last_reserved_ip.0"), "no address\n");
    writeFileSync(at("README"), "not of ours");
    const pod = lab.pod();
    expect(await lab.done("bridge", "ADD", config, { pod, directory })).toMatchObject({
      ips: [{ address: "10.11.0.7/28" }],
    });
    expect(readFileSync(at("10.11.0.7"), "utf8")).toBe(`${pod.id}\r\neth0`);
    await lab.done("bridge", "DEL", config, { pod, directory });
    await lab.done("bridge", "GC", { ...config, "cni.dev/valid-attachments": [] }, { directory });
    expect(lab.leased("st1")).toEqual([2, 3, 4, 5, 6].map((host) => `10.11.0.${host}`).concat("README"));
  });

  test("interfaces that lead to a pod ignore router advertisements from it (CVE-2020-10749)", async () => {
    const acceptsRoutes = (link: string) => lab.host("cat", `/proc/sys/net/ipv6/conf/${link}/accept_ra`).trim();
    const [bridged, single] = [lab.pod(), lab.pod()];
    await lab.done("bridge", "ADD", masqueradingBridge(lab, "st8", "10.18.0.0/24"), { pod: bridged, directory });
    const { ipam } = masqueradingBridge(lab, "st9", "10.19.0.0/24");
    const ptp = { cniVersion: "1.1.0", name: "st9", type: "ptp", ipam };
    const { interfaces } = await lab.done("ptp", "ADD", ptp, { pod: single, directory });
    const links = ["st8", ...ports("st8"), (interfaces as { name: string }[])[0]?.name ?? ""];
    expect(links.map((link) => [link, acceptsRoutes(link)])).toEqual(links.map((link) => [link, "0"]));
    expect(links).toHaveLength(3);
  });

  test("an exhausted range is an error, and the pod is not changed", async () => {
    const config = masqueradingBridge(lab, "st2", "10.12.0.0/30");
    const [first, second] = [lab.pod(), lab.pod()];
    await lab.done("bridge", "ADD", config, { pod: first, directory });
    const full = await lab.call("bridge", "ADD", config, { pod: second, directory });
    expect(full.output.msg).toBe("no IP addresses available in range set: 10.12.0.1-10.12.0.2");
    expect(lab.links(second)).toEqual(["lo"]);
    expect(ports("st2")).toHaveLength(1);
    await lab.done("bridge", "DEL", config, { pod: first, directory });
    await lab.done("bridge", "ADD", config, { pod: second, directory });
  });

  test("requested addresses are assigned, and unavailable ones refused", async () => {
    const ask = (...ips: string[]) => masqueradingBridge(lab, "st3", "10.13.0.0/24", { runtimeConfig: { ips } });
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

  test("existing interfaces with the pod's or bridge's name or a conflicting address are errors", async () => {
    const config = masqueradingBridge(lab, "st4", "10.14.0.0/24");
    const pod = lab.pod();
    lab.inside(pod, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer0");
    expect((await lab.call("bridge", "ADD", config, { pod, directory })).output.msg).toContain("already exists");
    expect(lab.links(pod).sort()).toEqual(["eth0", "lo", "peer0"]);

    lab.host("ip", "link", "add", "st5", "type", "veth", "peer", "name", "st5p");
    const wrong = await lab.call("bridge", "ADD", masqueradingBridge(lab, "st5", "10.15.0.0/24"), {
      pod: lab.pod(),
      directory,
    });
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
    "a pod that gave the interface's name to its loopback does not keep its lease from %s",
    async (type) => {
      const config = {
        ...masqueradingBridge(lab, "st7", "10.17.0.0/24"),
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
        expect(lab.rules()).not.toContain(pod.id.slice(0, 40));
      }
    },
  );

  test("the host's namespace and paths that are not a namespace are refused", async () => {
    const config = masqueradingBridge(lab, "st6", "10.16.0.0/24");
    for (const CNI_NETNS of [lab.hostNetns, "/etc/passwd", "/nowhere"]) {
      const answer = await lab.call("bridge", "ADD", config, { pod: lab.pod(), directory, environment: { CNI_NETNS } });
      expect(answer).toMatchObject({ exitCode: 1, output: { code: 8 }, stderr: "" });
    }
    const del = await lab.call("bridge", "DEL", config, { pod: lab.pod(), environment: { CNI_NETNS: lab.hostNetns } });
    expect(del.output).toMatchObject({ code: 8 });
  });
});
