// CreateContainer: creates layer, bundle and record, or nothing; equal requests get the same container.

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { holdTime, pass } from "./testing/clock.ts";
import { containerConfig, mountOf, podNamespaces, sandboxConfig } from "./testing/configs.ts";
import { breakDisk, makeContainer, never, runPod, useNode } from "./testing/node.ts";
import type { NamespaceOptions, UserNamespace } from "./types.ts";

const everything = { labels: new Map() };
const node = useNode();
holdTime();

async function bundles(sandboxId: string): Promise<string[]> {
  return await readdir(join(node().podDirectory(sandboxId), "containers"));
}

const hostUsers: UserNamespace = { mode: "node", uids: [], gids: [] };

function ownUsers(hostId: number): UserNamespace {
  const ids = [{ containerId: 0, hostId, length: 65_536 }];
  return { mode: "pod", uids: ids, gids: ids };
}

function namespaces(user: UserNamespace | undefined): NamespaceOptions {
  return user === undefined ? podNamespaces : { ...podNamespaces, user };
}

test("a create makes a layer, a bundle and a record, but starts no process", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const c = await makeContainer(pods, id);
  expect(pods.container(c)).toMatchObject({ phase: { state: "created" }, stopSignal: "SIGTERM" });
  expect(await node().record(c)).toMatchObject({ phase: { state: "created" }, removing: false });
  expect([...node().images.layers]).toEqual([c]);
  expect(await readdir(join(node().podDirectory(id), "containers", c))).toEqual([
    "config.json",
    "rootfs",
    "rootfs.json",
  ]);
  expect(node().monitor(id).starts).toEqual([]);
});

test("only root may look into a pod's directory, or read the bundle, whose environment may hold secrets", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const bundle = join(node().podDirectory(id), "containers", await makeContainer(pods, id));
  const names = ["../..", "..", "", "rootfs", "config.json", "rootfs.json"];
  const modes = await Promise.all(names.map(async (name) => (await stat(join(bundle, name))).mode & 0o077));
  expect(modes).toEqual(names.map(() => 0));
});

test.each([
  ["SIGUSR1", "SIGUSR2", "SIGUSR1"],
  [undefined, "SIGUSR2", "SIGUSR2"],
  [undefined, "no signal", "SIGTERM"],
])("stop signal: with %s requested and %s in the image it is %s", async (stopSignal, ofImage, signal) => {
  const pods = await node().start();
  node().images.config = { stopSignal: ofImage };
  const config = containerConfig("c", "img", ["/bin/sleep"]);
  const asked = stopSignal === undefined ? config : { ...config, stopSignal };
  const c = await pods.createContainer(await runPod(pods), asked, never);
  expect(pods.container(c).stopSignal).toBe(signal);
});

test("the image's volumes are directories in the root, except the root itself and what the request mounts over", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  node().images.config = { volumes: ["/data", "/../climbs", "/", "/volume/"] };
  const config = { ...containerConfig("c", "img", ["/bin/sleep"]), mounts: [mountOf(node().directory)] };
  const c = await pods.createContainer(id, config, never);
  const rootfs = await readFile(join(node().podDirectory(id), "containers", c, "rootfs.json"), "utf8");
  expect(JSON.parse(rootfs).directories).toEqual(["/data", "/climbs"]);
});

test.each([
  ["host namespaces", { network: "node", pid: "node", ipc: "node" }, ["mount", "cgroup"]],
  ["a shared PID namespace", { pid: "pod" }, ["mount", "network <pin>", "ipc ipc", "uts uts", "pid pid", "cgroup"]],
  [
    "its own users",
    { user: ownUsers(100_000) },
    ["mount", "network <pin>", "ipc ipc", "uts uts", "user user", "pid", "cgroup"],
  ],
] as const)("the namespaces of a container in a pod with %s", async (_, change, expected) => {
  const pods = await node().start();
  const asked: NamespaceOptions = { ...podNamespaces, ...change };
  const sandbox = sandboxConfig("p");
  const security = { ...sandbox.security, namespaces: asked };
  const id = await pods.runSandbox({ ...sandbox, security }, "", never);
  const config = containerConfig("c", "img", ["/bin/true"]);
  const c = await pods.createContainer(id, { ...config, security: { ...config.security, namespaces: asked } }, never);
  const spec = await readFile(join(node().podDirectory(id), "containers", c, "config.json"), "utf8");
  const pins = join(node().podDirectory(id), "ns/");
  const { netnsPath } = pods.sandbox(id);
  const joined: { type: string; path?: string }[] = JSON.parse(spec).linux.namespaces;
  expect(
    joined.map(({ type, path }) =>
      path === undefined ? type : `${type} ${path.replace(pins, "").replace(netnsPath, "<pin>")}`,
    ),
  ).toEqual(expected);
});

test("concurrent and repeated creates return the same container", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const [a, b] = await Promise.all([makeContainer(pods, id), makeContainer(pods, id)]);
  expect(b).toBe(a);
  expect(await makeContainer(pods, id)).toBe(a);
  expect(node().script.count("images prepareSnapshot")).toBe(1);
});

test("a create during the removal of a container with the same name and attempt waits for it, and creates a new one", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const c = await makeContainer(pods, id);
  const removing = node().script.hold("images removeSnapshot");
  const removal = pods.removeContainer(c, never);
  await removing.arrived;
  const create = makeContainer(pods, id);
  removing.release();
  await removal;
  const next = await create;
  expect(next).not.toBe(c);
  await pods.startContainer(next, never);
});

test("a volume that does not answer delays only its pod, by 10 s; a retry joins the same lookup", async () => {
  const pods = await node().start();
  const [id, other] = [await runPod(pods), await runPod(pods, "other")];
  const volume = join(node().directory, "volume");
  const config = { ...containerConfig("c", "img", ["/bin/sleep"]), mounts: [mountOf(volume)] };
  const look = node().script.hold("host presentPath");
  const silent = { code: "Unavailable", message: expect.stringContaining("has not answered for 10 s") };
  for (let tries = 0; tries < 2; tries += 1) {
    const refused = expect(pods.createContainer(id, config, never)).rejects.toMatchObject(silent);
    await look.arrived;
    await pods.createContainer(other, { ...config, mounts: [mountOf(node().directory)] }, never);
    await pass(10_000);
    await refused;
  }
  expect(node().script.count("host presentPath", volume)).toBe(1);
  await pods.stopSandbox(id, never);
  expect(await bundles(other)).toHaveLength(1);
});

test("a create whose layer cannot be created leaves nothing, and a retry succeeds", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  node().script.fail("images prepareSnapshot", new Error("EROFS"));
  await expect(makeContainer(pods, id)).rejects.toThrow("EROFS");
  expect(node().images.layers.size).toBe(0);
  expect(await bundles(id)).toEqual([]);
  await makeContainer(pods, id);
});

test("a create that fails and cannot be undone says in the log what is left", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  node().script.fail("images prepareSnapshot", new Error("EROFS"));
  node().script.fail("images removeSnapshot", new Error("EBUSY"));
  await expect(makeContainer(pods, id)).rejects.toThrow("EROFS");
  expect(node().log).toEqual([expect.stringContaining("undo failed: remove the writable layer: EBUSY")]);
});

test("a create whose record cannot be written removes the bundle and the layer", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  await breakDisk(node());
  await expect(makeContainer(pods, id)).rejects.toThrow("ENOTDIR");
  expect(node().images.layers.size).toBe(0);
  expect(await bundles(id)).toEqual([]);
  expect(pods.containers(everything)).toEqual([]);
});

test("a create with a missing image is refused", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const other = containerConfig("c", "other", ["/bin/true"]);
  await expect(pods.createContainer(id, other, never)).rejects.toMatchObject({ name: "imageMissing" });
});

test.each([
  ["its own user namespace in a pod without one", undefined, ownUsers(100_000), "otherUsers"],
  ["id mappings other than its pod's", ownUsers(100_000), ownUsers(200_000), "otherUsers"],
  ["the host's user namespace in a pod with its own", ownUsers(100_000), hostUsers, "otherUsers"],
  ["its pod's id mappings", ownUsers(100_000), ownUsers(100_000), undefined],
  ["the host's user namespace, like its pod", undefined, hostUsers, undefined],
  ["no userns_options", ownUsers(100_000), undefined, undefined],
])("a container that requests %s", async (_, ofPod, ofContainer, refusal) => {
  const pods = await node().start();
  const sandbox = sandboxConfig("p");
  const security = { ...sandbox.security, namespaces: namespaces(ofPod) };
  const id = await pods.runSandbox({ ...sandbox, security }, "", never);
  const config = containerConfig("c", "img", ["/bin/true"]);
  const create = pods.createContainer(
    id,
    { ...config, security: { ...config.security, namespaces: namespaces(ofContainer) } },
    never,
  );
  if (refusal === undefined) await create;
  else await expect(create).rejects.toMatchObject({ name: refusal, code: "InvalidArgument" });
});
