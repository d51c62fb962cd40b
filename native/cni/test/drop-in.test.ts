// Our plugins and the reference plugins (from Debian) are interchangeable: the same configuration has the same result
// and the same leases, and each can delete what the other added. Any difference is a defect of ours.

import { readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bridgeConfig, type Lab, openLab, ours, oursSanitized, type Pod, reference } from "./lab.ts";

let lab: Lab;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.remove());

const bridge = (name: string, subnets: readonly string[], more?: object) => bridgeConfig(lab, name, subnets, more);

const mac = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;

/** A result without its random parts. */
function shape(result: object, pod: Pod): Record<string, unknown> {
  const text = JSON.stringify(result)
    .replaceAll(pod.netns, "NETNS")
    .replaceAll(/veth[0-9a-f]{8}/g, "VETH")
    .replaceAll(/([0-9a-f]{2}:){5}[0-9a-f]{2}/g, "MAC");
  return JSON.parse(text);
}

/** The kernel's state of a pod's network, except what differs from pod to pod. */
function kernelView(pod: Pod) {
  const json = (...words: string[]) => JSON.parse(lab.inside(pod, "ip", "-j", ...words));
  const addresses = json("addr", "show", "dev", "eth0")[0];
  return {
    flags: addresses.flags,
    mtu: addresses.mtu,
    state: addresses.operstate,
    addresses: addresses.addr_info
      .filter((one: { scope: string }) => one.scope === "global")
      .map(({ family, prefixlen, broadcast }: Record<string, unknown>) => ({ family, prefixlen, broadcast })),
    routes: [...json("route"), ...json("-6", "route")]
      .filter((route: { dst: string }) => !route.dst.startsWith("fe80"))
      .map(({ dst, gateway, scope, protocol, metric }: Record<string, unknown>) => ({
        dst,
        gateway,
        scope,
        protocol,
        metric,
      })),
    settings: ["ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/accept_dad"].map((name) =>
      lab.inside(pod, "cat", `/proc/sys/net/${name}`).trim(),
    ),
  };
}

describe("the same configuration", () => {
  const configurations = {
    "a gateway and its default route": () => bridge("dr1", ["10.1.0.0/24"], { isDefaultGateway: true, mtu: 1400 }),
    "both families, routes, several ranges": () => ({
      ...bridge("dr2", []),
      ipam: {
        type: "host-local",
        dataDir: lab.leases,
        ranges: [
          [
            { subnet: "10.2.0.0/29", rangeStart: "10.2.0.4", rangeEnd: "10.2.0.5", gateway: "10.2.0.6" },
            { subnet: "10.2.8.0/24" },
          ],
          [{ subnet: "fd02::/64" }],
        ],
        routes: [{ dst: "0.0.0.0/0" }, { dst: "10.77.0.0/16", gw: "10.2.0.6" }, { dst: "::/0" }],
      },
    }),
    "a flat range, hairpin, promiscuous ports, version 0.4.0": () => ({
      ...bridge("dr3", []),
      cniVersion: "0.4.0",
      hairpinMode: true,
      ipam: { type: "host-local", dataDir: lab.leases, subnet: "10.3.0.0/24", rangeStart: "10.3.0.9" },
      dns: { nameservers: ["10.3.0.1"], search: ["example.com"] },
    }),
    "no addresses": () => ({
      cniVersion: "0.3.1",
      name: "dr4",
      type: "bridge",
      bridge: "dr4",
      promiscMode: true,
      ipam: {},
    }),
    "static addresses": () => ({
      ...bridge("dr5", [], { isGateway: false }),
      ipam: {
        type: "static",
        addresses: [{ address: "10.5.0.7/24", gateway: "10.5.0.1" }],
        routes: [{ dst: "10.6.0.0/16" }],
      },
    }),
    "an empty DNS list, which replaces ipam's": () => ({
      ...bridge("dr6", [], { isGateway: false, dns: { nameservers: [] } }),
      ipam: { type: "static", addresses: [{ address: "10.5.0.7/24" }], dns: { nameservers: ["10.5.0.1"] } },
    }),
  };
  test.each(Object.entries(configurations))("has the same result and effect: %s", async (_, make) => {
    const config = make();
    const theirs = lab.pod();
    const theirResult = shape(await lab.done("bridge", "ADD", config, { pod: theirs, directory: reference }), theirs);
    const theirView = kernelView(theirs);
    const theirLeases = lab
      .leased(config.name)
      .map((name) => readFileSync(path.join(lab.leases, config.name, name), "utf8"));
    await lab.done("bridge", "DEL", config, { pod: theirs });
    // Ours must start from the same address as theirs.
    for (const name of ["last_reserved_ip.0", "last_reserved_ip.1"])
      lab.host("rm", "-f", path.join(lab.leases, config.name, name));

    const pod = lab.pod();
    const answer = await lab.done("bridge", "ADD", config, { pod });
    const result = shape(answer, pod);
    // Debian's version prints an empty dns.
    expect({ dns: {}, ...(result as object) }).toEqual({ dns: {}, ...(theirResult as object) });
    expect(kernelView(pod)).toEqual(theirView);
    const leases = lab
      .leased(config.name)
      .map((name) => readFileSync(path.join(lab.leases, config.name, name), "utf8"));
    expect(leases.map((text) => text.replaceAll(pod.id, "ID"))).toEqual(
      theirLeases.map((text) => text.replaceAll(theirs.id, "ID")),
    );
    // CHECK of Debian's version does not find routes that have no gateway of their own.
    const checkers = {
      "0.3.1": [],
      "0.4.0": [ours, reference],
      "1.0.0": "addresses" in config.ipam ? [ours] : [ours, reference],
    };
    for (const directory of checkers[config.cniVersion as keyof typeof checkers])
      await lab.done("bridge", "CHECK", { ...config, prevResult: answer }, { pod, directory });
    await lab.done("bridge", "DEL", config, { pod, directory: reference });
    expect(lab.leased(config.name)).toEqual([]);
  });

  test("of ptp", async () => {
    const ipam = { type: "host-local", dataDir: lab.leases, subnet: "10.8.0.0/24", routes: [{ dst: "0.0.0.0/0" }] };
    const config = { cniVersion: "1.0.0", name: "dr8", type: "ptp", mtu: 1300, ipam };
    const hostsRoutes = (...family: string[]): Record<string, unknown>[] =>
      JSON.parse(lab.host("ip", ...family, "-j", "route"))
        .filter(({ dev }: { dev: string }) => dev.startsWith("veth"))
        .map(({ dst, scope, protocol }: Record<string, unknown>) => ({ dst, scope, protocol }));
    const seen = [];
    for (const [adder, deleter] of [
      [reference, ours],
      [oursSanitized, reference],
    ] as const) {
      lab.host("rm", "-f", path.join(lab.leases, "dr8", "last_reserved_ip.0"));
      const pod = lab.pod();
      const prevResult = await lab.done("ptp", "ADD", config, { pod, directory: adder });
      // The reference plugin does duplicate detection, although there is only the host.
      const { settings: _, ...view } = kernelView(pod);
      seen.push({ result: { dns: {}, ...shape(prevResult, pod) }, view, routes: hostsRoutes() });
      for (const directory of [ours, reference])
        await lab.done("ptp", "CHECK", { ...config, prevResult }, { pod, directory });
      await lab.done("ptp", "DEL", config, { pod, directory: deleter });
      expect(lab.leased("dr8")).toEqual([]);
      expect(hostsRoutes()).toEqual([]);
    }
    expect(seen[1]).toEqual(seen[0]);

    const pod = lab.pod();
    const six = { ...config, ipMasq: true, ipam: { ...ipam, subnet: "fd08::/64", routes: [{ dst: "::/0" }] } };
    const prevResult = await lab.done("ptp", "ADD", six, { pod, directory: oursSanitized });
    await lab.done("ptp", "CHECK", { ...six, prevResult }, { pod, directory: oursSanitized });
    expect(hostsRoutes("-6").map(({ dst }) => dst)).toContain("fd08::2");
    expect(lab.inside(pod, "ip", "-6", "route", "get", "fd08::77")).toContain("via fd08::1 dev eth0 src fd08::2");
    await lab.done("ptp", "DEL", six, { pod, directory: oursSanitized });
    expect(lab.host("nft", "list", "ruleset")).not.toContain("fd08::");
  });

  test("of loopback", async () => {
    const config = { cniVersion: "1.0.0", name: "lo", type: "loopback" };
    const results = [];
    for (const directory of [reference, ours, oursSanitized]) {
      const pod = lab.pod();
      results.push(shape(await lab.done("loopback", "ADD", config, { pod, directory }), pod));
      await lab.done("loopback", "CHECK", config, { pod });
      await lab.done("loopback", "DEL", config, { pod });
      expect((await lab.call("loopback", "CHECK", config, { pod })).output).toMatchObject({ code: 999 });
    }
    const withDns = results.map((result) => ({ dns: {}, ...(result as object) }));
    expect(withDns).toEqual([withDns[0], withDns[0], withDns[0]]);
  });
});

test("a gateway in CNI_ARGS applies to the addresses in CNI_ARGS", async () => {
  const ipam = { type: "static", addresses: [{ address: "10.9.0.7/24", gateway: "10.9.0.1" }] };
  const config = { cniVersion: "1.0.0", name: "dr9", type: "macvlan", ipam };
  const environment = { CNI_ARGS: "IP=10.9.0.9/24;GATEWAY=10.9.0.254" };
  const pod = lab.pod();
  const prevResult = await lab.done("static", "ADD", config, { pod, directory: reference, environment });
  const answer = await lab.done("static", "ADD", config, { pod, directory: oursSanitized, environment });
  expect({ dns: {}, ...answer }).toEqual({ dns: {}, ...prevResult });
  await lab.done("static", "CHECK", { ...config, prevResult }, { pod, directory: oursSanitized, environment });
});

describe("used interchangeably", () => {
  const portMappings = [
    { hostPort: 8080, containerPort: 80, protocol: "tcp" },
    { hostPort: 5353, containerPort: 53, protocol: "udp", hostIP: "127.0.0.1" },
    // In containerd's spelling.
    { HostPort: 5354, ContainerPort: 53, Protocol: "udp", HostIP: "::1" },
  ];
  const portmap = (name: string) => ({
    cniVersion: "1.0.0",
    name,
    type: "portmap",
    snat: true,
    runtimeConfig: { portMappings },
  });

  test("iptables rules created by the reference plugins are deleted with the pod", async () => {
    const config = bridge("pl1", ["10.11.0.0/24", "fd11::/64"], { ipMasq: true });
    const pod = lab.pod();
    const other = lab.pod();
    for (const one of [pod, other]) {
      const prevResult = await lab.done("bridge", "ADD", config, { pod: one, directory: reference });
      await lab.done("portmap", "ADD", { ...portmap("pl1"), prevResult }, { pod: one, directory: reference });
    }
    const rules = () => lab.host("iptables-save").match(/10\.11\.0\.\d+|CNI-[0-9a-f]{24}|CNI-DN-[0-9a-f]{21}/g) ?? [];
    const ofBoth = rules().length;
    expect(ofBoth).toBeGreaterThan(10);
    await lab.done("portmap", "DEL", portmap("pl1"), { pod });
    await lab.done("bridge", "DEL", config, { pod });
    expect(rules().length).toBe(ofBoth / 2);
    await lab.done("portmap", "DEL", portmap("pl1"), { pod: other, directory: oursSanitized });
    await lab.done("bridge", "DEL", config, { pod: other, directory: oursSanitized });
    expect(rules()).toEqual([]);
    expect(lab.host("ip6tables-save")).not.toMatch(/fd11::|CNI-[0-9a-f]{24}/);
  });

  // Debian's version does not support nftables: identical rules imply that newer versions can delete ours.
  test("our rules equal the reference plugins' since 1.6, except order, loopback guard and same-subnet rules", async () => {
    const config = bridge("pl2", ["10.12.0.0/24", "fd12::/64"], { ipMasq: true, ipMasqBackend: "nftables" });
    const pod = { ...lab.pod(), id: "c1" };
    const prevResult = await lab.done("bridge", "ADD", config, { pod, directory: oursSanitized });
    const ports = { ...portmap("pl2"), backend: "nftables" };
    expect(await lab.done("portmap", "ADD", { ...ports, prevResult }, { pod, directory: oursSanitized })).toEqual(
      prevResult,
    );
    for (const directory of [ours, oursSanitized])
      await lab.done("portmap", "CHECK", { ...ports, prevResult }, { pod, directory });
    expect(lab.host("nft", "list", "table", "inet", "cni_plugins_masquerade")).toBe(masquerading);
    expect(lab.host("nft", "list", "table", "ip", "cni_hostport")).toBe(hostPorts);
    expect(lab.host("nft", "list", "table", "ip6", "cni_hostport")).toContain(
      '\t\ttcp dport 8080 dnat to [fd12::2]:80 comment "c1"\n\t\tip6 daddr ::1 udp dport 5354 dnat to [fd12::2]:53 comment "c1"\n',
    );
    expect(lab.host("cat", "/proc/sys/net/ipv4/conf/pl2/route_localnet").trim()).toBe("1");
    for (const plugin of ["portmap", "bridge"]) {
      const its = plugin === "portmap" ? ports : config;
      for (const directory of [oursSanitized, ours]) await lab.done(plugin, "DEL", its, { pod, directory });
    }
    expect(lab.host("nft", "list", "ruleset")).not.toContain("c1");
  });
});

test("host-gw adds routes to other nodes' pods via those nodes, and DEL keeps them", async () => {
  lab.host("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1");
  lab.host("ip", "addr", "add", "192.0.2.1/24", "dev", "up0");
  for (const end of ["up0", "up1"]) lab.host("ip", "link", "set", end, "up");
  const prevResult = { cniVersion: "1.0.0", ips: [{ address: "10.14.0.2/24" }] };
  const hostGw = (...routes: object[]) => ({ cniVersion: "1.0.0", name: "gw1", type: "host-gw", routes, prevResult });
  const pod = lab.pod();
  const way = () => lab.host("ip", "route", "show", "10.15.0.0/16").trim();
  // The last time, the node has a new address.
  for (const gw of ["192.0.2.7", "192.0.2.7", "192.0.2.8"]) {
    const config = hostGw({ dst: "10.15.0.0/16", gw });
    expect(await lab.done("host-gw", "ADD", config, { pod, directory: oursSanitized })).toEqual(prevResult);
    expect(way()).toBe(`10.15.0.0/16 via ${gw} dev up0 proto static`);
    await lab.done("host-gw", "CHECK", config, { pod, directory: oursSanitized });
    await lab.done("host-gw", "DEL", config, { pod, directory: oursSanitized });
  }
  expect(way()).not.toBe("");
  const unreachable = await lab.call("host-gw", "ADD", hostGw({ dst: "10.16.0.0/16", gw: "198.51.100.1" }), { pod });
  expect(unreachable.output.msg).toBe("add the route to 10.16.0.0/16 via 198.51.100.1: Network is unreachable");
  expect((await lab.call("host-gw", "ADD", hostGw({ dst: "10.16.0.0/16" }), { pod })).output.code).toBe(7);
});

test("VERSION lists the supported versions, and results have the configuration's version", async () => {
  expect(await lab.done("bridge", "VERSION", "")).toEqual({
    cniVersion: "1.1.0",
    supportedVersions: ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
  });
  const pod = lab.pod();
  for (const cniVersion of ["0.3.1", "1.1.0"]) {
    const config = { ...bridge("ve1", ["10.13.0.0/24"]), cniVersion };
    const result = await lab.done("bridge", "ADD", config, { pod });
    expect(result).toMatchObject({
      cniVersion,
      interfaces: [{ mac: expect.stringMatching(mac) }, {}, { name: "eth0" }],
    });
    const [address] = result.ips as object[];
    expect(Object.hasOwn(address ?? {}, "version")).toBe(cniVersion === "0.3.1");
    await lab.done("bridge", "DEL", config, { pod });
  }
});

const masquerading = `table inet cni_plugins_masquerade {
	chain masq_checks {
		ip saddr 10.12.0.2 ip daddr != 10.12.0.0/24 masquerade comment "83ef26283f831a12-f4d01f2ef4b92245, net: pl2, if: eth0, id: c1"
		ip6 saddr fd12::2 ip6 daddr != fd12::/64 masquerade comment "83ef26283f831a12-f4d01f2ef4b92245, net: pl2, if: eth0, id: c1"
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip daddr 224.0.0.0/4 return
		ip6 daddr ff00::/8 return
		goto masq_checks
	}
}
`;

const hostPorts = `table ip cni_hostport {
	chain hostports {
		tcp dport 8080 dnat to 10.12.0.2:80 comment "c1"
		ip daddr 127.0.0.1 udp dport 5353 dnat to 10.12.0.2:53 comment "c1"
	}

	chain hostip_hostports {
	}

	chain hostports_all {
		jump hostip_hostports
		jump hostports
	}

	chain prerouting_last {
		type nat hook prerouting priority dstnat + 1; policy accept;
		fib daddr type local jump hostports_all
	}

	chain output_last {
		type nat hook output priority -99; policy accept;
		fib daddr type local jump hostports_all
	}

	chain loopback_guard {
		type filter hook prerouting priority raw; policy accept;
		iif != "lo" ip daddr 127.0.0.0/8 drop
	}

	chain masquerading {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.12.0.2 ip daddr 10.12.0.2 masquerade comment "c1"
		ip saddr 127.0.0.1 ip daddr 10.12.0.2 masquerade comment "c1"
		ip saddr 10.12.0.0/24 ip daddr 10.12.0.2 meta l4proto tcp ct original proto-dst 8080 ct status dnat masquerade comment "c1"
		ip saddr 10.12.0.0/24 ip daddr 10.12.0.2 meta l4proto udp ct original proto-dst 5353 ct status dnat masquerade comment "c1"
	}
}
`;
