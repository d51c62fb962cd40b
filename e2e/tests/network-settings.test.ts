// The network of a pod as seen by its containers: interface settings, sysctls, and what unprivileged users may do.

import { readFile, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runtime } from "../../cri/api/generated/messages.js";
import { type ContainerWish, runContainer } from "../fixtures/container.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";

let node: TestNode;
beforeAll(async () => {
  node = await startNode();
});
afterAll(async () => {
  await node.close();
});

const run = (name: string, wish: ContainerWish) => runContainer(node, name, wish);

test("interfaces accept no router advertisements and route nothing to loopback, whatever the host's defaults", async () => {
  const inherited = "/proc/sys/net/ipv4/conf/default/route_localnet";
  const before = await readFile(inherited, "utf8");
  await writeFile(inherited, "1");
  try {
    const all = await run("network", {});
    const files = ["ipv4/conf/*/route_localnet", "ipv6/conf/*/accept_ra"];
    for (const file of files) {
      const values = (await all.sh(`ls /proc/sys/net/${file}; cat /proc/sys/net/${file}`)).trim().split("\n");
      expect(values.some((line) => line.includes("/eth0/"))).toBe(true);
      for (const value of values.filter((line) => !line.startsWith("/"))) expect(value).toBe("0");
    }
    const asked = await run("network-asked", { pod: { sysctls: { "net.ipv4.conf.default.route_localnet": "1" } } });
    expect(await asked.sh("cat /proc/sys/net/ipv4/conf/default/route_localnet")).toBe("1\n");
    await node.removePods();
  } finally {
    await writeFile(inherited, before);
  }
});

test("sysctls of an interface are set once the network has created it; if it does not exist, the pod fails", async () => {
  const of = (name: string) => ({ pod: { sysctls: { [`net.ipv4.conf.${name}.rp_filter`]: "2" } } });
  const { sh } = await run("of-interface", of("eth0"));
  expect(await sh("cat /proc/sys/net/ipv4/conf/eth0/rp_filter")).toBe("2\n");
  await expect(run("of-nothing", of("eth7"))).rejects.toMatchObject({
    details: expect.stringContaining("set the sysctl net/ipv4/conf/eth7/rp_filter: No such file"),
  });
  await node.removePods();
});

test("users without capabilities can listen on any port and send echo requests, in a user namespace too", async () => {
  const user = { runAsUser: { value: 1000 }, capabilities: { dropCapabilities: ["ALL"] } };
  const listen = "nc -l -p 80 -e true & sleep 0.2; nc 127.0.0.1 80 </dev/null && echo heard";
  const mapping = [{ containerId: 0, hostId: 200_000, length: 65_536 }];
  const own = {
    namespaceOptions: { usernsOptions: { mode: runtime.v1.NamespaceMode.POD, uids: mapping, gids: mapping } },
  };
  const range = "cat /proc/sys/net/ipv4/ping_group_range";
  const { sh } = await run("ports", { security: user });
  expect(await sh(listen)).toBe("heard\n");
  expect(await sh(range)).toBe("0\t2147483647\n");
  const { sh: inUsers } = await run("ports-mapped", { security: { ...user, ...own } });
  expect(await inUsers(listen)).toBe("heard\n");
  const sysctls = { "net.ipv4.ip_unprivileged_port_start": "1024", "net.ipv4.ping_group_range": "1 0" };
  const { sh: asked } = await run("ports-asked", { security: user, pod: { sysctls } });
  expect(await asked(listen)).not.toContain("heard");
  expect(await asked(range)).toBe("1\t0\n");
  await node.removePods();
});

test("a pod without IPv6 has none, although the network's plugins enable it for their address", async () => {
  const added = [{ subnet: "fd00:6b65:656c::/64" }];
  await node.changePlugins(([bridge]) => bridge?.ipam?.ranges.push(added));
  try {
    const without = { "net.ipv6.conf.all.disable_ipv6": "1" };
    const { sh } = await run("without-ipv6", { pod: { sysctls: without } });
    expect(await sh("cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip address show eth0 | grep -c inet6")).toBe(
      "1\n0\n",
    );
    const { sh: besides } = await run("with-ipv6", {
      pod: { sysctls: { ...without, "net.ipv6.conf.eth0.disable_ipv6": "0" } },
    });
    expect(await besides("cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6")).toBe("0\n");
    await node.removePods();
  } finally {
    await node.changePlugins(([bridge]) => bridge?.ipam?.ranges.pop());
  }
});
