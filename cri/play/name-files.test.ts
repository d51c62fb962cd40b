// A pod's DNS configuration and its /etc/hosts.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { dnsConfig, hostsFile, parseResolvConf } from "./name-files.ts";

const plain = { containers: [{ name: "app", image: "x" }] };

test("resolv.conf as the kubelet reads it", () => {
  const text =
    "# nameserver 1.1.1.1\nnameserver 9.9.9.9 ; x\ndomain old\nsearch a.example b.example\noptions ndots:5 rotate\n";
  expect(parseResolvConf(text)).toEqual({
    servers: ["9.9.9.9"],
    searches: ["a.example", "b.example"],
    options: ["ndots:5", "rotate"],
  });
});

test("dnsPolicy None uses only dnsConfig", async () => {
  const spec = {
    ...plain,
    dnsPolicy: "None",
    dnsConfig: {
      nameservers: ["10.0.0.1"],
      searches: ["x"],
      options: [{ name: "ndots", value: "2" }, { name: "edns0" }],
    },
  };
  expect(await dnsConfig(spec)).toEqual({ servers: ["10.0.0.1"], searches: ["x"], options: ["ndots:2", "edns0"] });
});

test("if systemd-resolved answers on the host's loopback, its upstream servers are used", async () => {
  const directory = await mkdtemp(join(tmpdir(), "keelson-names-"));
  const host = { own: join(directory, "resolv.conf"), behindStub: join(directory, "behind.conf") };
  const spec = plain;
  try {
    await writeFile(host.own, "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n");
    expect(await dnsConfig(spec, host)).toMatchObject({ servers: ["127.0.0.53"], searches: ["lan"] });
    await writeFile(host.behindStub, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch lan\n");
    expect(await dnsConfig(spec, host)).toEqual({
      servers: ["192.0.2.1", "192.0.2.2"],
      searches: ["lan"],
      options: [],
    });
    const onHost = { ...spec, hostNetwork: true };
    expect(await dnsConfig(onHost, host)).toMatchObject({ servers: ["127.0.0.53"] });
    await writeFile(host.own, "nameserver 127.0.0.1\nnameserver 192.0.2.9\n");
    expect(await dnsConfig(spec, host)).toMatchObject({ servers: ["127.0.0.1", "192.0.2.9"] });
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("options of dnsConfig replace the host's of the same name, and domain is a search list of one", async () => {
  const directory = await mkdtemp(join(tmpdir(), "keelson-names-"));
  const host = { own: join(directory, "resolv.conf"), behindStub: join(directory, "none") };
  try {
    await writeFile(host.own, "nameserver 192.0.2.1\noptions ndots:1 rotate\ndomain lan ; comment\n");
    const spec = { ...plain, dnsConfig: { options: [{ name: "ndots", value: "5" }] } };
    expect(await dnsConfig(spec, host)).toMatchObject({ searches: ["lan"], options: ["rotate", "ndots:5"] });
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("/etc/hosts has the pod's addresses and its aliases", async () => {
  const spec = { ...plain, hostAliases: [{ ip: "192.0.2.9", hostnames: ["a", "b"] }] };
  const lines = (await hostsFile(spec, "web", ["10.0.0.7"])).split("\n");
  expect(lines).toContain("10.0.0.7\tweb");
  expect(lines).toContain("192.0.2.9\ta\tb");
  const onHost = await hostsFile({ ...spec, hostNetwork: true }, "web", ["10.0.0.7"]);
  expect(onHost).toContain(await readFile("/etc/hosts", "utf8"));
  expect(onHost).not.toContain("10.0.0.7\tweb");
});
