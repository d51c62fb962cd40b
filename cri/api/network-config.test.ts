// UpdateRuntimeConfig: when a network is created from the pod CIDRs, and which files are never replaced.

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

/** The directory's files, by name, after the kubelet has passed the subnets. */
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

test("pod CIDRs create a configuration if there is none, which sorts after all later ones", async () => {
  const files = await update("10.1.0.0/24,fd00::/64");
  expect(Object.keys(files)).toEqual(["99-keelson.conflist"]);
  const { plugins } = JSON.parse(files["99-keelson.conflist"] ?? "");
  expect(plugins[0].ipam.ranges).toEqual([[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00::/64" }]]);
});

test("nothing is created unless from_pod_cidr is set", async () => {
  expect(await update("10.1.0.0/24", false)).toEqual({});
});

test.each(["10-kindnet.conflist", "zz.conf", "87-podman.json", "99-keelson.conflist"])(
  "if %s exists, valid or not, nothing is created",
  async (name) => {
    await existing(name, "mine");
    expect(await update("10.1.0.0/24")).toEqual({ [name]: "mine" });
  },
);

test("files that no runtime reads are not counted as a configuration", async () => {
  await existing("10-calico.conflist.bak", "old");
  expect(Object.keys(await update("10.1.0.0/24"))).toContain("99-keelson.conflist");
});

test("the file of an older Keelson, which took precedence over the cluster's, is renamed to sort last", async () => {
  const own = made(["10.1.0.0/24", "fd00::/64"]);
  await existing("10-keelson.conflist", own);
  await existing("10-kindnet.conflist", "the cluster's");
  expect(await update("10.1.0.0/24,fd00::/64")).toEqual({
    "10-kindnet.conflist": "the cluster's",
    "99-keelson.conflist": own,
  });
});

test.each([
  ["was modified", made(["10.1.0.0/24"]).replace('"ipMasq": true', '"ipMasq": false')],
  ["was written by others", "{}"],
])("a file of that name that %s is kept", async (_, text) => {
  await existing("10-keelson.conflist", text);
  expect(await update("10.1.0.0/24")).toEqual({ "10-keelson.conflist": text });
});

test("without a CIDR no file is created; an invalid CIDR is an error that quotes it", async () => {
  expect(await update("")).toEqual({});
  await expect(update("10.1.0.0/99")).rejects.toThrow("10.1.0.0/99");
});
