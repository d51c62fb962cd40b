// The generated network works for pods, and unusable subnets are rejected.

import { afterEach, beforeEach, expect, test } from "vitest";
import { loadHost } from "../native/index.ts";
import { parseNetwork } from "./config.ts";
import { defaultNetwork } from "./default-network.ts";
import { openNetwork } from "./network.ts";
import { debianPlugins, type Lab, nameOf, openLab, run } from "./testing/lab.ts";

let lab: Lab;
beforeEach(async () => {
  lab = await openLab();
});
afterEach(() => lab[Symbol.asyncDispose]());

test("a pod on the default network reaches its gateway, and leaves nothing behind", async () => {
  const { confDir, stateDir, dataDir, bridge, prefix, log } = lab;
  await lab.writeConfig("10-keelson.conflist", defaultNetwork({ podCidrs: [`${prefix}.0/24`], bridge, dataDir }));
  const network = await openNetwork({
    confDir,
    binDirs: [debianPlugins],
    stateDir,
    runDir: stateDir,
    host: loadHost(),
    log,
  });
  const pod = await lab.pod();

  const { ips } = await network.attach(pod, new AbortController().signal);

  expect(ips).toEqual([`${prefix}.2`]);
  await run("ip", "netns", "exec", nameOf(pod), "busybox", "ping", "-c1", "-W2", `${prefix}.1`);
  await network.detach(pod.sandboxId);
  network.close();
  expect(await lab.traces()).toEqual([]);
});

test("two address families become two ranges, in the given order", () => {
  const text = defaultNetwork({ podCidrs: ["fd00:10:88::7/64", "10.88.3.9/16"], bridge: "b", dataDir: "/d" });
  expect(parseNetwork(text, true)).toMatchObject({ kind: "network" });
  expect(JSON.parse(text).plugins[0].ipam).toEqual({
    type: "host-local",
    dataDir: "/d",
    ranges: [[{ subnet: "fd00:10:88::/64" }], [{ subnet: "10.88.0.0/16" }]],
    routes: [{ dst: "::/0" }, { dst: "0.0.0.0/0" }],
  });
});

test.each([
  [[], /it is empty/],
  [["10.88.0.0"], /no prefix length/],
  [["10.88.0.0/33"], /not a subnet/],
  [["tomorrow/16"], /not a subnet/],
  [["10.88.0.0/31"], /no room/],
  [["10.88.0.0/16", "10.99.0.0/16"], /two subnets are of the same address family/],
])("pod CIDRs %j are rejected", (podCidrs, words) => {
  expect(() => defaultNetwork({ podCidrs, bridge: "b", dataDir: "/d" })).toThrow(words);
});
