// Pods on a real bridge with Debian's plugins: addresses, ports, bandwidth, and that nothing is left afterwards.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually, type Lab, nameOf, openLab, run } from "./testing/lab.ts";
import type { Network } from "./types.ts";

const portmap = { type: "portmap", capabilities: { portMappings: true }, snat: true };
const bandwidth = { type: "bandwidth", capabilities: { bandwidth: true } };
const never = new AbortController().signal;

let lab: Lab;

beforeEach(async () => {
  lab = await openLab();
});
afterEach(async () => {
  await lab[Symbol.asyncDispose]();
});

async function expectNothingLeft(network: Network): Promise<void> {
  expect(network.leases()).toEqual([]);
  expect(await readdir(join(lab.stateDir, "cni"))).toEqual([]);
  expect(await lab.reserved()).toEqual([]);
  expect(await lab.traces()).toEqual([]);
}

test("a pod gets its address, route and interface, and releases all of them", async () => {
  await lab.install("bridge", "host-local");
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork());
  const network = await lab.open();
  expect(network.readiness()).toEqual({ ready: true });
  const pod = await lab.pod();

  const attachment = await network.attach(pod, never);

  expect(attachment).toEqual({ ips: [`${lab.prefix}.2`], interfaceName: "eth0" });
  expect(await run("ip", "-n", nameOf(pod), "-o", "addr", "show", "eth0")).toContain(`${lab.prefix}.2/24`);
  expect(await run("ip", "-n", nameOf(pod), "route")).toContain(`default via ${lab.prefix}.1`);
  await run("ip", "netns", "exec", nameOf(pod), "busybox", "ping", "-c1", "-W2", `${lab.prefix}.1`);
  expect(network.leases()).toEqual([{ sandboxId: pod.sandboxId, state: "attached" }]);
  expect(await lab.reserved()).toEqual([`${lab.prefix}.2`]);
  expect((await lab.traces()).length).toBeGreaterThan(0);

  await network.detach(pod.sandboxId);
  await expectNothingLeft(network);
  await network.detach(pod.sandboxId);
});

test("ten pods attached at once get ten addresses", async () => {
  await lab.install("bridge", "host-local", "portmap");
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([portmap]));
  const network = await lab.open();
  const pods = await Promise.all(Array.from({ length: 10 }, () => lab.pod()));

  const attachments = await Promise.all(pods.map((pod) => network.attach(pod, never)));

  const ips = attachments.map(({ ips }) => ips[0]);
  expect(new Set(ips).size).toBe(10);
  expect(await lab.reserved()).toEqual([...ips].sort());
  await Promise.all(pods.map(({ sandboxId }) => network.detach(sandboxId)));
  await expectNothingLeft(network);
});

test("a dual-stack network gives both addresses, that of the first range first", async () => {
  await lab.install("bridge", "host-local");
  const v6 = `fd00:${lab.bridge.slice(2, 6)}::`;
  await lab.writeConfig("10-lab.conflist", {
    cniVersion: "0.4.0",
    name: "dual",
    plugins: [
      {
        type: "bridge",
        bridge: lab.bridge,
        isGateway: true,
        ipam: {
          type: "host-local",
          dataDir: lab.dataDir,
          ranges: [[{ subnet: `${v6}/64` }], [{ subnet: `${lab.prefix}.0/24` }]],
        },
      },
    ],
  });
  const network = await lab.open();
  const pod = await lab.pod();

  const { ips } = await network.attach(pod, never);

  expect(ips).toEqual([`${v6.replace(/:0+(?=[0-9a-f])/g, ":")}2`, `${lab.prefix}.2`]);
  const addresses = await run("ip", "-n", nameOf(pod), "-o", "addr", "show", "eth0");
  for (const ip of ips) expect(addresses).toContain(`${ip}/`);
  await network.detach(pod.sandboxId);
  await expectNothingLeft(network);
});

test("a host port leads to the pod until it is detached", async () => {
  await lab.install("bridge", "host-local", "portmap");
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([portmap]));
  const network = await lab.open();
  const unmapped = { hostPort: 0, containerPort: 9, protocol: "udp", hostIp: "" } as const;
  const mapping = { hostPort: 38181, containerPort: 80, protocol: "tcp", hostIp: "" } as const;
  const pod = await lab.pod({ portMappings: [mapping, unmapped] });
  await network.attach(pod, never);

  const serving = run(
    "ip",
    "netns",
    "exec",
    nameOf(pod),
    "timeout",
    "10",
    "busybox",
    "nc",
    "-l",
    "-p",
    "80",
    "-e",
    "echo",
    "hello from the pod",
  );
  serving.catch(() => "");
  let answer = "";
  await eventually("the host port answers", async () => {
    answer = await run("timeout", "2", "busybox", "nc", `${lab.prefix}.1`, "38181").catch(() => "");
    return answer !== "";
  });
  expect(answer).toBe("hello from the pod\n");

  await network.detach(pod.sandboxId);
  expect(await run("iptables-save", "-t", "nat")).not.toContain("38181");
  await expectNothingLeft(network);
});

test("a chain of bridge, firewall, tuning and portmap removes everything that it set up", async () => {
  await lab.install("bridge", "host-local", "firewall", "tuning", "portmap");
  const tuning = { type: "tuning", sysctl: { "net.core.somaxconn": "321" } };
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([{ type: "firewall" }, tuning, portmap]));
  const network = await lab.open();
  const mapping = { hostPort: 38183, containerPort: 80, protocol: "udp", hostIp: "127.0.0.1" } as const;
  const pod = await lab.pod({ portMappings: [mapping] });

  await network.attach(pod, never);

  expect(await run("ip", "netns", "exec", nameOf(pod), "cat", "/proc/sys/net/core/somaxconn")).toBe("321\n");
  expect(await run("iptables-save", "-t", "filter")).toContain(`-A CNI-FORWARD -s ${lab.prefix}.2/32 -j ACCEPT`);
  expect(await run("iptables-save", "-t", "nat")).toContain("38183");
  await network.detach(pod.sandboxId);
  expect(await run("iptables-save", "-t", "nat")).not.toContain("38183");
  await expectNothingLeft(network);
});

test("bandwidth annotations become shapers on the pod's interface", async () => {
  await lab.install("bridge", "host-local", "bandwidth");
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([bandwidth]));
  const network = await lab.open();
  const annotations = new Map([
    ["kubernetes.io/ingress-bandwidth", "10M"],
    ["kubernetes.io/egress-bandwidth", "20M"],
  ]);
  const pod = await lab.pod({ annotations });
  await network.attach(pod, never);

  const shapers = await run("tc", "qdisc", "show");
  expect(shapers).toMatch(/tbf .* rate 10Mbit/);
  expect(shapers).toMatch(/tbf .* rate 20Mbit/);

  await network.detach(pod.sandboxId);
  await expectNothingLeft(network);
  expect(await run("tc", "qdisc", "show")).not.toMatch(/tbf .* rate [12]0Mbit/);
});

test("a pod whose namespace no longer exists still releases its address", async () => {
  await lab.install("bridge", "host-local", "portmap");
  // Without ipMasq: the plugin (1.1.1) finds its masquerade rules by the address inside the namespace only.
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([portmap], { ipMasq: false }));
  const network = await lab.open();
  const mapping = { hostPort: 38182, containerPort: 80, protocol: "tcp", hostIp: "" } as const;
  const pod = await lab.pod({ portMappings: [mapping] });
  await network.attach(pod, never);
  await lab.removeNamespace(pod);

  await network.detach(pod.sandboxId);

  expect(network.leases()).toEqual([]);
  expect(await lab.reserved()).toEqual([]);
  // The kernel removes the host end of the veth pair after the namespace.
  await expect.poll(() => lab.traces()).toEqual([]);
});

test("a pod is detached with the configuration it was attached with, even if the file has changed since", async () => {
  await lab.install("bridge", "host-local");
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork());
  const network = await lab.open();
  const pod = await lab.pod();
  await network.attach(pod, never);
  await lab.writeConfig("10-lab.conflist", { cniVersion: "1.0.0", name: "other", plugins: [{ type: "ptp" }] });
  await eventually("the new file is noticed", () => !network.readiness().ready);
  network.close();

  const later = await lab.open();
  expect(later.leases()).toEqual([{ sandboxId: pod.sandboxId, state: "attached" }]);
  await later.detach(pod.sandboxId);
  await expectNothingLeft(later);
});
