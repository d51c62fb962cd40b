// Which traffic a host port captures: none for a service of the cluster or for another address.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { type Lab, openLab, oursSanitized, type Pod } from "./lab.ts";

const directory = oursSanitized;

let lab: Lab;
let pod: Pod;
let other: Pod;
let client: Pod;
let prevResult: object;
const servers: ChildProcess[] = [];

/** Connects a pod to a bridge of its own, so that the host routes what the others send to it. */
async function connect(name: string, subnet: string, its: Pod): Promise<object> {
  const ipam = { type: "host-local", dataDir: lab.leases, subnet };
  const config = { cniVersion: "1.0.0", name, type: "bridge", bridge: name, isDefaultGateway: true, ipam };
  return lab.done("bridge", "ADD", config, { pod: its, directory });
}

/** Answers each connection to port 80 or 30080 with a word. */
async function serve(netns: string, word: string): Promise<void> {
  const program = `
import selectors, socket
all = selectors.DefaultSelector()
for port in (80, 30080): all.register(socket.create_server(("", port)), selectors.EVENT_READ)
print("ready", flush=True)
while True:
  for key, _ in all.select():
    with key.fileobj.accept()[0] as c: c.sendall(b"${word}")`;
  const server = spawn("nsenter", [`--net=${netns}`, "python3", "-c", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  servers.push(server);
  await once(server.stdout, "data");
}

const ask = `
import socket, sys
print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).recv(100).decode())`;
const answerTo = (its: Pod, host: string, port: number) =>
  lab.inside(its, "python3", "-c", ask, host, `${port}`).trim();
const answerToHost = (host: string, port: number) => lab.host("python3", "-c", ask, host, `${port}`).trim();

const ports = (hostPort: number) => ({
  cniVersion: "1.0.0",
  name: "hp2",
  type: "portmap",
  snat: true,
  runtimeConfig: { portMappings: [{ hostPort, containerPort: 80, protocol: "tcp" }] },
});

beforeAll(async () => {
  lab = openLab();
  [pod, other, client] = [lab.pod(), lab.pod(), lab.pod()];
  prevResult = await connect("hp2", "10.20.0.0/24", pod);
  await connect("hp3", "10.21.0.0/24", other);
  await connect("hp4", "10.22.0.0/24", client);
  await serve(pod.netns, "pod");
  await serve(other.netns, "other");
});
afterAll(() => {
  for (const server of servers) server.kill("SIGKILL");
  lab.remove();
});

// On a node the services' rules exist first.
beforeEach(() => void lab.host("nft", "add table ip cni_hostport; delete table ip cni_hostport"));

const services = {
  nftables: {
    add: () =>
      lab.host(
        "nft",
        `table ip services {
          chain ports { fib daddr type local tcp dport 30080 dnat to 10.21.0.2:80; }
          chain prerouting { type nat hook prerouting priority dstnat; jump ports; }
          chain output { type nat hook output priority -100; jump ports; }
        }`,
      ),
    remove: () => lab.host("nft", "delete table ip services"),
  },
  iptables: {
    add: () => iptables("-A"),
    remove: () => iptables("-D"),
  },
};
function iptables(verb: string) {
  for (const chain of ["PREROUTING", "OUTPUT"]) {
    const match = "-p tcp --dport 30080 -m addrtype --dst-type LOCAL -j DNAT --to 10.21.0.2:80".split(" ");
    lab.host("iptables", "-t", "nat", verb, chain, ...match);
  }
}

test.each(["nftables", "iptables"] as const)(
  "a host port does not take precedence over a service's rules in %s (CVE-2019-9946)",
  async (backend) => {
    services[backend].add();
    await lab.done("portmap", "ADD", { ...ports(30080), prevResult }, { pod, directory });
    expect([answerTo(client, "10.22.0.1", 30080), answerToHost("10.22.0.1", 30080)]).toEqual(["other", "other"]);
    services[backend].remove();
    expect([answerTo(client, "10.22.0.1", 30080), answerToHost("10.22.0.1", 30080)]).toEqual(["pod", "pod"]);
    await lab.done("portmap", "DEL", ports(30080), { pod, directory });
  },
);

test("a host port does not capture traffic to IPVS service addresses, which the host also has (CVE-2019-9946)", async () => {
  lab.host("ip", "link", "add", "kube-ipvs0", "type", "bridge");
  for (const address of ["10.96.0.1/32", "fd96::1/128"]) lab.host("ip", "addr", "add", address, "dev", "kube-ipvs0");
  // Stands in for the service.
  await serve(lab.hostNetns, "service");
  await lab.done("portmap", "ADD", { ...ports(30080), prevResult }, { pod, directory });
  expect([answerTo(client, "10.96.0.1", 30080), answerToHost("10.96.0.1", 30080)]).toEqual(["service", "service"]);
  lab.host("ip", "addr", "add", "10.96.0.2/32", "dev", "kube-ipvs0");
  expect([answerTo(client, "10.96.0.2", 30080), answerToHost("10.96.0.2", 30080)]).toEqual(["service", "service"]);
  for (const address of ["10.20.0.1", "10.22.0.1"])
    expect([address, answerTo(client, address, 30080), answerToHost(address, 30080)]).toEqual([address, "pod", "pod"]);
  expect(answerToHost("127.0.0.1", 30080)).toBe("pod");
  // An address that is added later counts as the host's for packets that come in on its interface.
  lab.host("ip", "addr", "add", "10.22.0.9/24", "dev", "hp4");
  expect(answerTo(client, "10.22.0.9", 30080)).toBe("pod");
  const both = { cniVersion: "1.0.0", ips: [{ address: "10.20.0.2/24" }, { address: "fd20::2/64" }] };
  await lab.done("portmap", "ADD", { ...ports(30081), prevResult: both }, { pod, directory });
  expect(lab.host("nft", "list", "chain", "ip6", "cni_hostport", "output_last").match(/ip6 daddr .* jump/g)).toEqual([
    "ip6 daddr ::1 jump",
  ]);
  await lab.done("portmap", "DEL", ports(30080), { pod, directory });
  servers.pop()?.kill("SIGKILL");
  lab.host("ip", "addr", "del", "10.22.0.9/24", "dev", "hp4");
  lab.host("ip", "link", "delete", "kube-ipvs0");
});

// The table as created by the reference portmap 1.6 to 1.8 with its nftables backend.
const openToAll = `table ip cni_hostport {
  chain hostip_hostports { }
  chain hostports { }
  chain prerouting { type nat hook prerouting priority dstnat; jump hostip_hostports; jump hostports; }
  chain output { type nat hook output priority -100; jump hostip_hostports; fib daddr type local jump hostports; }
}`;

test.each(["of ours alone", "that an older portmap left"])(
  "a host port captures only traffic to the host's addresses, with rules %s (CVE-2025-67499)",
  async (rules) => {
    if (rules !== "of ours alone") lab.host("nft", openToAll);
    await lab.done("portmap", "ADD", { ...ports(80), prevResult }, { pod, directory });
    expect([answerTo(client, "10.22.0.1", 80), answerToHost("127.0.0.1", 80)]).toEqual(["pod", "pod"]);
    expect([answerTo(client, "10.21.0.2", 80), answerToHost("10.21.0.2", 80)]).toEqual(["other", "other"]);
    await lab.done("portmap", "DEL", ports(80), { pod, directory });
  },
);

/** Sends a datagram that contains its own destination, as a raw frame: the sender's kernel might deliver it locally. */
const forge = `
import socket, struct, sys
source, target, gateway = sys.argv[1:]
udp = struct.pack("!HHHH", 5555, 5300, 8 + len(target), 0) + target.encode()
def header(checksum):
  fixed = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, checksum)
  return fixed + socket.inet_aton(source) + socket.inet_aton(target)
total = sum(struct.unpack("!10H", header(0)))
while total >> 16: total = (total & 0xffff) + (total >> 16)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
frame = bytes.fromhex(gateway.replace(":", "")) + wire.getsockname()[4] + struct.pack("!H", 0x800)
wire.send(frame + header(~total & 0xffff) + udp)`;

test("a pod with a host port does not expose the node's loopback to neighbours (CVE-2020-8558)", async () => {
  await lab.done("portmap", "ADD", { ...ports(8080), prevResult }, { pod, directory });
  expect([answerToHost("127.0.0.1", 8080), answerToHost("10.20.0.1", 8080)]).toEqual(["pod", "pod"]);
  const listen = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5300))
print("ready", flush=True)
while True: print(s.recv(100).decode(), flush=True)`;
  const server = spawn("nsenter", [`--net=${lab.hostNetns}`, "python3", "-c", listen], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  servers.push(server);
  let heard = "";
  server.stdout.on("data", (chunk: Buffer) => {
    heard += chunk;
  });
  await vi.waitFor(() => expect(heard).toBe("ready\n"));
  const [bridge] = JSON.parse(lab.host("ip", "-j", "link", "show", "dev", "hp2"));
  for (const target of ["127.0.0.1", "127.9.9.9", "10.20.0.1"])
    lab.inside(pod, "python3", "-c", forge, "10.20.0.2", target, bridge.address);
  await vi.waitFor(() => expect(heard).toContain("10.20.0.1"));
  expect(heard).toBe("ready\n10.20.0.1\n");
  await lab.done("portmap", "DEL", ports(8080), { pod, directory });
});
