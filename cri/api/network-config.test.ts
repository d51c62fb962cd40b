// UpdateRuntimeConfig: when a node's network is made of the pod CIDRs, and whose it never replaces.

import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { defaultNetwork } from "../../cni/default-network.ts";
import { runtime } from "./generated/messages.js";
import { networkConfigCall } from "./network-config.ts";

const dataDir = "/var/lib/somewhere";

let confDir: string;
beforeEach(async () => {
  confDir = join(await mkdtemp(join(tmpdir(), "keelson-netconf-")), "net.d");
});
afterEach(() => rm(join(confDir, ".."), { recursive: true }));

/** The directory's files, by name, after the kubelet has passed on the subnets. */
async function update(podCidr: string, cniFromPodCidr = true): Promise<Record<string, string>> {
  const call = networkConfigCall({ cniFromPodCidr, cniConfDir: confDir, dataDir });
  await call.UpdateRuntimeConfig(
    new runtime.v1.UpdateRuntimeConfigRequest({ runtimeConfig: { networkConfig: { podCidr } } }),
  );
  const names = await readdir(confDir).catch(() => []);
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(join(confDir, name), "utf8")])),
  );
}

async function existing(name: string, text: string): Promise<void> {
  await mkdir(confDir, { recursive: true });
  await writeFile(join(confDir, name), text);
}

const made = (podCidrs: readonly string[]) => defaultNetwork({ podCidrs, bridge: "keelson0", dataDir });

test("pod CIDRs make a configuration where there is none, behind all that may come", async () => {
  const files = await update("10.1.0.0/24,fd00::/64");
  expect(Object.keys(files)).toEqual(["99-keelson.conflist"]);
  const { plugins } = JSON.parse(files["99-keelson.conflist"] ?? "");
  expect(plugins[0].ipam.ranges).toEqual([[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00::/64" }]]);
});

test("nothing is made unless the configuration asks for it", async () => {
  expect(await update("10.1.0.0/24", false)).toEqual({});
});

test.each(["10-kindnet.conflist", "zz.conf", "87-podman.json", "99-keelson.conflist"])(
  "beside %s, valid or not, nothing is made",
  async (name) => {
    await existing(name, "mine");
    expect(await update("10.1.0.0/24")).toEqual({ [name]: "mine" });
  },
);

test("what no runtime reads is no configuration", async () => {
  await existing("10-calico.conflist.bak", "old");
  expect(Object.keys(await update("10.1.0.0/24"))).toContain("99-keelson.conflist");
});

test("the file of an older Keelson, which hid a cluster's own, moves behind all others", async () => {
  const own = made(["10.1.0.0/24", "fd00::/64"]);
  await existing("10-keelson.conflist", own);
  await existing("10-kindnet.conflist", "the cluster's");
  expect(await update("10.1.0.0/24,fd00::/64")).toEqual({
    "10-kindnet.conflist": "the cluster's",
    "99-keelson.conflist": own,
  });
});

test.each([
  ["somebody has changed", made(["10.1.0.0/24"]).replace('"ipMasq": true', '"ipMasq": false')],
  ["somebody else has written", "{}"],
])("a file of that name that %s stays", async (_, text) => {
  await existing("10-keelson.conflist", text);
  expect(await update("10.1.0.0/24")).toEqual({ "10-keelson.conflist": text });
});

test("no CIDR, no file; a bad one is an error that quotes it", async () => {
  expect(await update("")).toEqual({});
  await expect(update("10.1.0.0/99")).rejects.toThrow("10.1.0.0/99");
});
