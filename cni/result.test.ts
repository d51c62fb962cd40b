// The pod's addresses in results as real plugins print them.

import { expect, test } from "vitest";
import { podAddresses } from "./result.ts";

const netns = "/run/netns/cni-1";
const address = (address: string, more: object = {}) => ({ address, ...more });

test.each<[string, object, readonly string[]]>([
  [
    "bridge",
    {
      interfaces: [{ name: "cni0" }, { name: "veth1" }, { name: "eth0", sandbox: netns }],
      ips: [address("10.0.0.2/24", { interface: 2 }), address("fd00::2/64", { interface: 2 })],
    },
    ["10.0.0.2", "fd00::2"],
  ],
  [
    "Calico, whose addresses have no interface",
    { interfaces: [{ name: "cali1" }], ips: [address("10.0.0.2/32")] },
    ["10.0.0.2"],
  ],
  [
    "Terway, whose interface has no sandbox",
    {
      interfaces: [{ name: "eth0" }],
      ips: [address("10.0.0.2/24", { interface: 0 }), address("fd00::2/64", { interface: 0 })],
    },
    ["10.0.0.2", "fd00::2"],
  ],
  [
    "a plugin that also names the host's eth0",
    {
      interfaces: [{ name: "eth0" }, { name: "eth0", sandbox: netns }],
      ips: [address("192.0.2.1/24", { interface: 0 }), address("10.0.0.2/24", { interface: 1 })],
    },
    ["10.0.0.2"],
  ],
  [
    "Multus, with a second network on another interface",
    {
      interfaces: [
        { name: "eth0", sandbox: netns },
        { name: "net1", sandbox: netns },
      ],
      ips: [address("10.0.0.2/24", { interface: 0 }), address("10.7.0.2/24", { interface: 1 })],
    },
    ["10.0.0.2"],
  ],
])("%s", (_, result, ips) => {
  expect(podAddresses(JSON.parse(JSON.stringify(result)), "eth0")).toEqual({ kind: "addresses", ips });
});
