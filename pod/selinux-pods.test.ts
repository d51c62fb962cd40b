// SELinux labels in the pod model: recorded with their pod, passed to the monitor, and unique per pod.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { levelOf } from "./spec/selinux-label.ts";
import type { ContainerPolicy } from "./spec/selinux-policy.ts";
import { containerConfig, plainSecurity, sandboxConfig } from "./testing/configs.ts";
import { makeContainer, never, runPod, useNode } from "./testing/node.ts";
import { containerPolicy, named } from "./testing/selinux.ts";

const node = useNode();
const active: ContainerPolicy = {
  ...containerPolicy,
  canonical: async (label) => (label.includes("nobody_t") ? undefined : label),
};

async function sandboxJson(id: string): Promise<{ mount_label?: string }> {
  return JSON.parse(await readFile(join(node().podDirectory(id), "sandbox.json"), "utf8"));
}

interface Spec {
  readonly process: { readonly selinuxLabel?: string };
  readonly linux: { readonly mountLabel?: string };
}

async function specOf(sandboxId: string, id: string): Promise<Spec> {
  return JSON.parse(await readFile(join(node().podDirectory(sandboxId), "containers", id, "config.json"), "utf8"));
}

test("each pod has its own categories, which its containers share and which survive a restart", async () => {
  node().selinux = active;
  let pods = await node().start();
  const [one, other] = [await runPod(pods, "one"), await runPod(pods, "other")];
  const label = (await sandboxJson(one)).mount_label ?? "";
  expect(label).toMatch(/^system_u:object_r:container_file_t:s0:c\d+,c\d+$/);
  expect(levelOf((await sandboxJson(other)).mount_label ?? "")).not.toBe(levelOf(label));

  const before = await makeContainer(pods, one, "before");
  pods = await node().restart();
  const after = await makeContainer(pods, one, "after");
  for (const id of [before, after]) {
    const { process, linux } = await specOf(one, id);
    expect(linux.mountLabel).toBe(label);
    expect(process.selinuxLabel).toBe(`system_u:system_r:container_t:${levelOf(label)}`);
  }
  expect(await pods.sandboxInfo(one)).toMatchObject({ selinux: { mount: label } });
});

test("a level requested by one pod is never assigned to another", async () => {
  node().selinux = active;
  const pods = await node().start();
  const config = sandboxConfig("naming");
  const security = { ...config.security, selinux: named({ level: "s0:c5,c6" }) };
  const id = await pods.runSandbox({ ...config, security }, "", never);
  expect((await sandboxJson(id)).mount_label).toBe("system_u:object_r:container_file_t:s0:c5,c6");
});

test("an invalid label is refused before anything is created", async () => {
  node().selinux = active;
  const pods = await node().start();
  const config = sandboxConfig("bad");
  for (const selinux of [named({ type: "nobody_t" }), named({ level: 's0:c1",upperdir="/etc' })])
    await expect(
      pods.runSandbox({ ...config, security: { ...config.security, selinux } }, "", never),
    ).rejects.toMatchObject({ code: "InvalidArgument" });
  expect(await node().podDirectories()).toEqual([]);
  expect(await node().records()).toEqual([]);
  expect(pods.sandboxes({ labels: new Map() })).toEqual([]);

  const id = await runPod(pods);
  const container = containerConfig("c", "img", ["/bin/sleep"]);
  const security = { ...plainSecurity, selinux: named({ type: "a,b" }) };
  await expect(pods.createContainer(id, { ...container, security }, never)).rejects.toThrow(
    'The SELinux type "a,b" of container c cannot be used',
  );
  expect(pods.containers({ labels: new Map() })).toEqual([]);
});

test("without SELinux, no labels are set anywhere", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const container = await makeContainer(pods, id);
  expect(await sandboxJson(id)).not.toHaveProperty("mount_label");
  const { process, linux } = await specOf(id, container);
  expect(process).not.toHaveProperty("selinuxLabel");
  expect(linux).not.toHaveProperty("mountLabel");
  expect(await node().record(id)).not.toHaveProperty("labels");
});
