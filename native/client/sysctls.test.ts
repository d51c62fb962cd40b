import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ipcSysctls, isOfInterface, sysctlName, sysctlNamespace } from "./sysctls.ts";

test("the table matches the monitor's", () => {
  const source = readFileSync(new URL("../monitor/pod/sysctl.cc", import.meta.url), "utf8");
  const rule = /int sysctl_namespace\([\s\S]*?\n}/.exec(source)?.[0] ?? "";
  const list = /ipc_names\[\] = {([\s\S]*?)};/.exec(rule)?.[1] ?? "";
  const quoted = (text: string) => [...text.matchAll(/"([^"]+)"/g)].map(([, name]) => name);
  expect(new Set(quoted(list))).toEqual(ipcSysctls);
  expect(quoted(rule.replace(list, ""))).toEqual(["net.", "fs.mqueue.", "kernel.domainname", "kernel.hostname"]);
});

test.each([
  ["net.ipv4.ip_forward", "net.ipv4.ip_forward"],
  ["net/ipv4/ip_forward", "net.ipv4.ip_forward"],
  ["net/ipv4/conf/eth0.100/forwarding", undefined],
  ["net.ipv4/ip_forward", undefined],
  ["net./../kernel/core_pattern", undefined],
  ["net..ipv4", undefined],
  [".net", undefined],
  ["net.ipv4.ip_forward=1", undefined],
  ["", undefined],
])("the name %j is parsed as %j", (text, name) => expect(sysctlName(text)).toBe(name));

test.each([
  ["net.core.somaxconn", "network"],
  ["fs.mqueue.msg_max", "ipc"],
  ["kernel.shmmax", "ipc"],
  ["kernel.shmfoo", undefined],
  ["kernel.core_pattern", undefined],
  ["network.x", undefined],
  ["vm.overcommit_memory", undefined],
])("the namespace of %s is %s", (name, namespace) => expect(sysctlNamespace(name)).toBe(namespace));

test.each([
  ["net.ipv4.conf.eth0.rp_filter", true],
  ["net.ipv6.neigh.net1.base_reachable_time_ms", true],
  ["net.ipv4.conf.default.rp_filter", false],
  ["net.ipv4.conf.all.rp_filter", false],
  ["net.ipv4.conf.lo.rp_filter", false],
  ["net.ipv4.ip_forward", false],
])("%s belongs to an interface created by CNI: %s", (name, is) => expect(isOfInterface(name)).toBe(is));
