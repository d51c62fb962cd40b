import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { NetworkReadiness } from "../../cni/types.ts";
import { runtime } from "./generated/messages.js";
import { networkConfigCall } from "./network-config.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-netconf-"));
});
afterEach(() => rm(directory, { recursive: true }));

const missing: NetworkReadiness = { ready: false, reason: "NetworkPluginNotReady", message: "none" };

async function update(podCidr: string, readiness: NetworkReadiness = missing): Promise<string[]> {
  const confDir = join(directory, "net.d");
  const call = networkConfigCall({
    network: { readiness: () => readiness, info: () => ({}) },
    cniConfDir: confDir,
    dataDir: "/var/lib/somewhere",
  });
  await call.UpdateRuntimeConfig(
    new runtime.v1.UpdateRuntimeConfigRequest({ runtimeConfig: { networkConfig: { podCidr } } }),
  );
  return await readdir(confDir).catch(() => []);
}

test("pod CIDRs make a configuration where there is none", async () => {
  expect(await update("10.1.0.0/24,fd00::/64")).toEqual(["10-keelson.conflist"]);
  const text = await readFile(join(directory, "net.d/10-keelson.conflist"), "utf8");
  expect(JSON.parse(text).plugins[0].ipam.ranges).toEqual([[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00::/64" }]]);
});

test("a network that is there is left alone, and so is a file", async () => {
  expect(await update("10.1.0.0/24", { ready: true })).toEqual([]);
  await update("10.1.0.0/24");
  await writeFile(join(directory, "net.d/10-keelson.conflist"), "mine");
  await update("10.2.0.0/24");
  expect(await readFile(join(directory, "net.d/10-keelson.conflist"), "utf8")).toBe("mine");
});

test("no CIDR, no file; a bad one is an error that quotes it", async () => {
  expect(await update("")).toEqual([]);
  await expect(update("10.1.0.0/99")).rejects.toThrow("10.1.0.0/99");
});
