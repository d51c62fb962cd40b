// Pods on a network of our own plugins: they are reachable through a host port, reach the outside with the host's
// address, and leave nothing behind.

import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { until } from "../fixtures/steps.ts";

const plugins = join(import.meta.dirname, "../../native/build/cni");
const tag = randomBytes(3).toString("hex");
const [host, outside] = [`ko-${tag}-host`, `ko-${tag}-out`];
const within = (namespace: string, ...words: string[]) =>
  execFileSync("nsenter", [`--net=/run/netns/${namespace}`, ...words], { encoding: "utf8", timeout: 10_000 });

let node: TestNode;
beforeAll(async () => {
  for (const name of [host, outside]) {
    execFileSync("ip", ["netns", "add", name]);
    within(name, "ip", "link", "set", "lo", "up");
  }
  // The outside has a route to the host, but none to the pods.
  within(host, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", outside);
  for (const [name, address] of [
    [host, "192.0.2.1/30"],
    [outside, "192.0.2.2/30"],
  ] as const) {
    within(name, "ip", "address", "add", address, "dev", "up0");
    within(name, "ip", "link", "set", "up0", "up");
  }
  within(host, "ip", "route", "add", "default", "via", "192.0.2.2");
  node = await startNode({ pluginDirectories: () => [plugins], enter: ["nsenter", `--net=/run/netns/${host}`] });
});
afterAll(async () => {
  await node?.close();
  for (const name of [host, outside]) execFileSync("ip", ["netns", "delete", name]);
});

test("a pod answers on a host port, reaches the outside, and leaves nothing behind", async () => {
  const pod = {
    ...node.podConfig("own-plugins"),
    portMappings: [{ protocol: 0, containerPort: 8080, hostPort: 18080, hostIp: "" }],
  };
  const { podSandboxId } = await node.client.runPodSandbox({ config: pod });
  await node.runContainer(pod, podSandboxId, "server", "while true; do echo from the pod | nc -l -p 8080; done");
  const answer = (address: string) =>
    until(`an answer by ${address}`, 10_000, async () => {
      const script = `busybox nc -w 2 ${address} 18080 </dev/null || true`;
      const said = within(address === "192.0.2.1" ? outside : host, "sh", "-c", script);
      return said.includes("from the pod") ? said : undefined;
    });
  await answer("192.0.2.1");
  await answer("127.0.0.1");

  // Answers can only be routed back to the host.
  const server = spawn("nsenter", [`--net=/run/netns/${outside}`, "busybox", "nc", "-l", "-p", "9000"]);
  try {
    server.stdin.write("from outside\n");
    const script = "until nc 192.0.2.2 9000 </dev/null; do sleep 0.1; done; exec sleep 1000";
    await node.runContainer(pod, podSandboxId, "client", script);
    await until("the pod to reach outside", 10_000, async () => {
      const log = readFileSync(join(node.logs, "client.log"), "utf8");
      return log.includes("from outside") ? true : undefined;
    });
  } finally {
    server.kill();
  }

  await node.removePods();
  expect(readdirSync(join(node.directory, "host-local", "keelson")).filter((name) => /^\d+\./.test(name))).toEqual([]);
  expect(within(host, "nft", "list", "ruleset")).not.toMatch(new RegExp(`${podSandboxId}|18080`));
  expect(within(host, "ip", "-br", "link", "show", "type", "veth")).not.toContain("veth");
});
