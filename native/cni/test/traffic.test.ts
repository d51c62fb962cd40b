// Where packets go after our plugins have run: to host ports, in earlier UDP flows, from neighbours with stale entries.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bridgeConfig, type Lab, openLab, oursSanitized, reference } from "./lab.ts";

let lab: Lab;
beforeAll(() => {
  lab = openLab();
});
afterAll(() => lab.remove());

const bridge = (name: string, subnets: readonly string[], more?: object) => bridgeConfig(lab, name, subnets, more);

test("a pod reaches another on its bridge through a host port, even if bridged packets bypass netfilter", async () => {
  for (const words of ["iptables", "ip6tables"])
    lab.host("sh", "-c", `! cd /proc/sys/net/bridge || echo 0 > bridge-nf-call-${words}`);
  const config = bridge("hp1", ["10.18.0.0/24", "fd18::/64"]);
  const [server, client] = [lab.pod(), lab.pod()];
  const prevResult = await lab.done("bridge", "ADD", config, { pod: server });
  await lab.done("bridge", "ADD", config, { pod: client });
  const listen = `
import socket
s = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
  with s.accept()[0] as c: c.sendall(c.getpeername()[0].removeprefix("::ffff:").encode())`;
  const listening = spawn("nsenter", [`--net=${server.netns}`, "python3", "-c", listen], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await once(listening.stdout, "data");
    const ask =
      "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).recv(100).decode())";
    const seenAs = (host: string, port: number) => lab.inside(client, "python3", "-c", ask, host, `${port}`).trim();
    for (const directory of [reference, oursSanitized]) {
      const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }];
      const ports = { cniVersion: "1.0.0", name: "hp1", type: "portmap", snat: true, runtimeConfig: { portMappings } };
      await lab.done("portmap", "ADD", { ...ports, prevResult }, { pod: server, directory });
      expect([seenAs("10.18.0.1", 8080), seenAs("fd18::1", 8080)]).toEqual(["10.18.0.1", "fd18::1"]);
      expect([seenAs("10.18.0.2", 80), seenAs("fd18::2", 80)]).toEqual(["10.18.0.3", "fd18::3"]);
      await lab.done("portmap", "DEL", ports, { pod: server, directory });
      expect(lab.rules()).not.toContain(server.id);
    }
  } finally {
    listening.kill("SIGKILL");
  }
  for (const pod of [server, client]) await lab.done("bridge", "DEL", config, { pod });
});

/** Enables connection tracking regardless of our rules, as rules of others do on a node. */
function trackConnections() {
  lab.host(
    "nft",
    "add table inet seen; add chain inet seen c { type filter hook output priority 0; }; add rule inet seen c ct state new",
  );
}

test("an existing UDP flow follows a port mapping once it is added", async () => {
  trackConnections();
  const send =
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); [s.sendto(b'x', ('127.0.0.1', p)) for p in l]";
  const listen =
    "l = (5361, 5362); k = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for p in l]; [a.bind(('127.0.0.1', p)) for a, p in zip(k, l)]";
  lab.host("python3", "-c", `import socket; ${listen}; ${send}`);
  const known = () =>
    [...lab.host("cat", "/proc/net/nf_conntrack").matchAll(/udp .*?dport=(536\d)/g)].map(([, port]) => port).sort();
  expect(known()).toEqual(["5361", "5362"]);
  const portMappings = [{ hostPort: 5361, containerPort: 53, protocol: "udp" }];
  const prevResult = { cniVersion: "1.0.0", ips: [{ address: "10.17.0.2/24" }] };
  const config = { cniVersion: "1.0.0", name: "ud1", type: "portmap", runtimeConfig: { portMappings }, prevResult };
  await lab.done("portmap", "ADD", config, { pod: lab.pod(), directory: oursSanitized });
  expect(known()).toEqual(["5362"]);
});

test("an existing UDP flow reaches the host again once the port mapping is removed", async () => {
  trackConnections();
  lab.host("ip", "link", "add", "ud2up", "type", "bridge");
  lab.host("ip", "link", "set", "ud2up", "up");
  for (const address of ["192.0.2.9/32", "fd22::9/128"])
    lab.host("ip", "addr", "add", address, "dev", "ud2up", ...(address.includes(":") ? ["nodad"] : []));
  const pod = lab.pod();
  const network = bridge("ud2", ["10.18.0.0/24", "fd18::/64"], { isDefaultGateway: true });
  const prevResult = await lab.done("bridge", "ADD", network, { pod, directory: oursSanitized });
  const portMappings = [{ hostPort: 5363, containerPort: 53, protocol: "udp" }];
  const config = { cniVersion: "1.0.0", name: "ud2", type: "portmap", runtimeConfig: { portMappings }, prevResult };
  await lab.done("portmap", "ADD", config, { pod, directory: oursSanitized });
  const socketOf = (host: string) =>
    `import socket\ndef at(port):\n  s = socket.socket(socket.${host.includes(":") ? "AF_INET6" : "AF_INET"}, socket.SOCK_DGRAM)\n  s.bind(("${host}", port)); s.settimeout(5); return s\n`;
  const send = (host: string) => `at(5364).sendto(b"x", ("${host}", 5363))`;
  const hosts = ["192.0.2.9", "fd22::9"];
  for (const host of hosts) lab.host("python3", "-c", `${socketOf(host)}${send(host)}`);
  await lab.done("portmap", "DEL", config, { pod, directory: oursSanitized });
  await lab.done("bridge", "DEL", network, { pod, directory: oursSanitized });
  for (const host of hosts) {
    const program = `${socketOf(host)}server = at(5363)\n${send(host)}\nprint(server.recv(1).decode())`;
    expect(lab.host("python3", "-c", program).trim()).toBe("x");
  }
});

test.each([false, true])(
  "neighbours with stale entries for a pod's addresses learn its MAC address (enabledad: %s)",
  async (enabledad) => {
    const name = enabledad ? "nb2" : "nb1";
    const [third, fd] = enabledad ? [24, "fd24"] : [23, "fd23"];
    const network = bridge(name, [`10.${third}.0.0/24`, `${fd}::/64`], { enabledad });
    // The bridge carries packets only once it has its first pod.
    await lab.done("bridge", "ADD", network, { pod: lab.pod(), directory: oursSanitized });
    const addresses = [`10.${third}.0.3`, `${fd}::3`];
    for (const address of addresses)
      lab.host("ip", "neigh", "add", address, "dev", name, "lladdr", "02:00:00:00:00:99", "nud", "stale");
    const pod = lab.pod();
    const result = await lab.done("bridge", "ADD", network, { pod, directory: oursSanitized });
    expect(result.ips).toMatchObject(addresses.map((address) => ({ address: expect.stringContaining(address) })));
    const its = JSON.parse(lab.inside(pod, "ip", "-j", "link", "show", "eth0"))[0].address;
    const known = () =>
      addresses.map(
        (address) => JSON.parse(lab.host("ip", "-j", "neigh", "show", "to", address, "dev", name))[0].lladdr,
      );
    await expect.poll(known, { timeout: 5000 }).toEqual([its, its]);
  },
);
