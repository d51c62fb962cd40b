// Image volumes and the volumes that images declare, with a real daemon.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runtime } from "../../cri/api/generated/messages.js";
import { busyboxLayer, makeImage, makeLayer, makeTar, pushImage } from "../../image/testing/build-image.ts";
import { startRegistry, type TestRegistry } from "../../image/testing/registry.ts";
import { startNode, type TestNode } from "../fixtures/node.ts";
import { lacks, ociHandlers } from "../fixtures/oci-runtimes.ts";

let node: TestNode;
let registry: TestRegistry;
const mapping = [{ containerId: 0, hostId: 300_000, length: 65_536 }];
const handlers = await ociHandlers();

/** As on a hardened host: the images are on a file system that is mounted noexec. */
async function mountNoexec(directory: string): Promise<void> {
  const store = join(directory, "root");
  await mkdir(store);
  execFileSync("mount", ["--bind", store, store]);
  execFileSync("mount", ["-o", "remount,bind,noexec,nosuid,nodev", store]);
}

beforeAll(async () => {
  [node, registry] = await Promise.all([startNode({ handlers, prepare: mountNoexec }), startRegistry()]);
  const layers = [
    makeTar([
      { name: "bottom", content: "bottom\n" },
      { name: "both", content: "from below\n" },
      { name: "sub/" },
      { name: "sub/inner", content: "inner\n" },
      { name: "etc/" },
      { name: "etc/hostname", content: "of the image\n" },
      { name: "out", link: "/etc" },
      { name: "up", link: "../../../../etc" },
      { name: "tool", content: "#!/bin/sh\necho ran\n", mode: 0o755 },
    ]),
    makeTar([{ name: "both", content: "from above\n" }]),
  ].map((tar) => makeLayer(tar));
  await pushImage(registry, "data/two", makeImage({ layers }), "1");
  await pushImage(registry, "data/one", makeImage({ layers: layers.slice(0, 1) }), "1");
  const Volumes = {
    "/declared": {},
    "relative/deep": {},
    "/../../up": {},
    "/bin": {},
    "/link/below": {},
    "/bin/sh": {},
    "/top": {},
    "/settings/file/": {},
  };
  const link = makeLayer(
    makeTar([
      { name: "link", link: "/elsewhere" },
      { name: "top", link: "/" },
    ]),
  );
  const defaults = { Env: ["PATH=/bin"], Cmd: ["sh"], Volumes };
  await pushImage(registry, "with/volumes", makeImage({ layers: [await busyboxLayer(), link], defaults }), "1");
  for (const name of ["data/two", "data/one", "with/volumes"])
    await node.client.pullImage({ image: { image: `${registry.address}/${name}:1` } });
});
afterAll(async () => {
  execFileSync("umount", ["--lazy", join(node.directory, "root")]);
  await node.close();
  await registry.stop();
});

interface Wish {
  readonly handler?: string;
  readonly mounts?: readonly object[];
  readonly image?: string;
  readonly security?: object;
}

async function create(name: string, { handler = "", mounts = [], image = node.image, security = {} }: Wish) {
  const { client } = node;
  const pod = { ...node.podConfig(name), linux: { securityContext: security } };
  const { podSandboxId } = await client.runPodSandbox({ config: pod, runtimeHandler: handler });
  const config = {
    metadata: { name, attempt: 0 },
    image: { image },
    command: ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
    mounts: [...mounts],
    linux: { securityContext: security },
  };
  const { containerId } = await client.createContainer({ podSandboxId, sandboxConfig: pod, config });
  const sh = async (script: string): Promise<string> => {
    const answer = await client.execSync({ containerId, cmd: ["sh", "-c", script] });
    return Buffer.concat([answer.stdout, answer.stderr]).toString();
  };
  return { podSandboxId, containerId, sh };
}

async function run(name: string, wish: Wish) {
  const created = await create(name, wish);
  await node.client.startContainer({ containerId: created.containerId });
  return created;
}

const volume = (name: string, containerPath: string, more: object = {}) => ({
  image: { image: `${registry.address}/data/${name}:1` },
  containerPath,
  readonly: true,
  ...more,
});

describe.each(["native", "runc", "crun"])("handler %s", (handler) => {
  test("mounts an image, or a sub path of it, read-only, and runs its programs unless noexec is requested", async ({
    skip,
  }) => {
    skip(lacks(handlers, handler));
    const mounts = [
      volume("two", "/two"),
      volume("one", "/one"),
      volume("two", "/part", { imageSubPath: "sub" }),
      volume("two", "/data", { mountOptions: ["noexec"] }),
    ];
    const { podSandboxId, containerId, sh } = await run(`shown-${handler}`, { handler, mounts });
    expect(await sh("cat /two/bottom /two/both /one/both /part/inner; ls /part")).toBe(
      "bottom\nfrom above\nfrom below\ninner\ninner\n",
    );
    expect(await sh("touch /two/x /one/x /part/x 2>&1; true")).toMatch(/(Read-only file system[\s\S]*){3}/);
    expect(await sh("/two/tool; /one/tool; /data/tool 2>&1; true")).toMatch(/^ran\nran\n.*denied/);
    // Links in the image resolve in the container, as in any directory.
    expect(await sh("cat /two/out/hostname")).toBe(`shown-${handler}\n`);
    const { status: told } = await node.client.containerStatus({ containerId });
    expect(told?.mounts).toMatchObject(mounts.map(({ containerPath, image }) => ({ containerPath, image })));
    expect(told?.mounts?.[2]?.imageSubPath).toBe("sub");
    const { image } = await node.client.imageStatus({ image: { image: `${registry.address}/data/two:1` } });
    expect(told?.mounts?.[0]?.image?.imageRef).toBe(image?.id);
    await node.client.removePodSandbox({ podSandboxId });
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(podSandboxId);
  });

  test("resolves a sub path with the image as the root: no link leads to the host", async ({ skip }) => {
    skip(lacks(handlers, handler));
    for (const imageSubPath of ["out", "up"]) {
      const wish = { handler, mounts: [volume("two", "/part", { imageSubPath })] };
      const { podSandboxId, sh } = await run(`out-${imageSubPath}-${handler}`, wish);
      expect(await sh("ls /part; cat /part/hostname")).toBe("hostname\nof the image\n");
      await node.client.removePodSandbox({ podSandboxId });
    }
  });
});

test("in a user namespace the image's owner is the container's root", async () => {
  const options = { usernsOptions: { mode: runtime.v1.NamespaceMode.POD, uids: mapping, gids: mapping } };
  const more = { uidMappings: mapping, gidMappings: mapping };
  const mounts = [
    volume("two", "/two", more),
    volume("one", "/one", more),
    volume("two", "/part", { ...more, imageSubPath: "sub" }),
  ];
  const { podSandboxId, sh } = await run("mapped", { mounts, security: { namespaceOptions: { pid: 1, ...options } } });
  expect(await sh("stat -c %u:%g /two/both /one/both /part/inner; cat /part/inner")).toBe("0:0\n0:0\n0:0\ninner\n");
  expect(await sh("touch /two/x 2>&1; true")).toMatch(/Read-only/);
  await node.client.removePodSandbox({ podSandboxId });
});

test("a mounted image cannot be removed, not even after a kill -9; once unmounted it can", async () => {
  const { client, daemon } = node;
  const { podSandboxId, sh } = await run("pinned", { mounts: [volume("two", "/two")] });
  const image = { image: `${registry.address}/data/two:1` };
  const refused = { code: status.FAILED_PRECONDITION, details: expect.stringContaining("mounts it") };
  await expect(client.removeImage({ image })).rejects.toMatchObject(refused);
  await daemon.kill();
  await daemon.start();
  await expect(client.removeImage({ image })).rejects.toMatchObject(refused);
  expect(await sh("cat /two/bottom")).toBe("bottom\n");
  await client.removePodSandbox({ podSandboxId });
  await client.removeImage({ image });
  expect((await client.imageStatus({ image })).image).toBeNull();
  await client.pullImage({ image });
});

test("refuses a missing image, a missing sub path, a writable mount, and an additional host path", async () => {
  const missing = { image: { image: "localhost/no/such:1" }, containerPath: "/x", readonly: true };
  await expect(create("missing", { mounts: [missing] })).rejects.toMatchObject({
    code: status.NOT_FOUND,
    details: expect.stringMatching(/^ImageVolumeMountFailed: /),
  });
  await expect(create("part", { mounts: [volume("two", "/x", { imageSubPath: "not/there" })] })).rejects.toMatchObject({
    code: status.FAILED_PRECONDITION,
    details: expect.stringMatching(/^ImageVolumeMountFailed: /),
  });
  for (const more of [{ readonly: false }, { hostPath: "/tmp" }, { imageSubPath: "../etc" }]) {
    await expect(create(`bad-${Object.keys(more)}`, { mounts: [volume("two", "/x", more)] })).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
    });
  }
});

test.for(["native", "runc"])(
  "an image's declared volumes are created inside its root, with handler %s",
  async (handler, { skip }) => {
    skip(lacks(handlers, handler));
    const image = `${registry.address}/with/volumes:1`;
    const { podSandboxId, sh } = await run(`declared-${handler}`, { handler, image });
    expect(
      await sh("ls -d /declared /relative/deep /up /bin/sh /elsewhere/below; touch /declared/x && echo writable"),
    ).toBe("/bin/sh\n/declared\n/elsewhere/below\n/relative/deep\n/up\nwritable\n");
    await node.client.removePodSandbox({ podSandboxId });
  },
);

describe.each([
  ["native", {}],
  ["runc", {}],
  ["crun", {}],
  ["native", { pid: 1, usernsOptions: { mode: runtime.v1.NamespaceMode.POD, uids: mapping, gids: mapping } }],
])("under a read-only root, with handler %s and namespaces %o", (handler, namespaceOptions) => {
  test("only an image's declared volumes are writable, and they keep the image's files", async ({ skip }) => {
    skip(lacks(handlers, handler));
    const image = `${registry.address}/with/volumes:1`;
    const security = { readonlyRootfs: true, namespaceOptions };
    const name = `read-only-${handler}-${Object.keys(namespaceOptions).length}`;
    const { podSandboxId, containerId, sh } = await run(name, { handler, image, security });
    for (const directory of ["/declared", "/relative/deep", "/up", "/elsewhere/below", "/bin"])
      expect(await sh(`echo x > ${directory}/made && cat ${directory}/made`)).toBe("x\n");
    expect(await sh("/bin/busybox echo of the image")).toBe("of the image\n");
    expect(await sh("touch /made /relative/made /elsewhere/made /top/made /../made 2>&1; true")).toMatch(
      /(Read-only[\s\S]*){5}/,
    );
    // It is part of the writable layer: counted with it, and removed with it.
    const { info } = await node.client.containerStatus({ containerId, verbose: true });
    const { upper } = JSON.parse(await readFile(`${JSON.parse(info?.info ?? "{}").bundle}/rootfs.json`, "utf8"));
    expect(await readFile(`${upper}/declared/made`, "utf8")).toBe("x\n");
    await node.client.removePodSandbox({ podSandboxId });
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(podSandboxId);
    expect(existsSync(upper)).toBe(false);
  });
});

test("a requested mount takes precedence over an image's volume, even under a read-only root", async () => {
  const image = `${registry.address}/with/volumes:1`;
  const mounts = [volume("two", "/declared")];
  const { podSandboxId, sh } = await run("covered", { image, mounts, security: { readonlyRootfs: true } });
  expect(await sh("cat /declared/bottom; touch /declared/x 2>&1; true")).toMatch(/^bottom\n.*Read-only/);
  await node.client.removePodSandbox({ podSandboxId });
});

test("a file that the request mounts inside an image's volume is visible there", async () => {
  const image = `${registry.address}/with/volumes:1`;
  const hostPath = join(node.directory, "settings");
  await writeFile(hostPath, "of the request\n");
  const { podSandboxId, sh } = await run("settings", {
    image,
    mounts: [{ hostPath, containerPath: "/settings/file" }],
  });
  expect(await sh("cat /settings/file")).toBe("of the request\n");
  await node.client.removePodSandbox({ podSandboxId });
});

test("nothing is left behind", async () => {
  await node.removePods();
  await node.daemon.stop();
  expect(await node.leftovers()).toEqual([]);
  await node.daemon.start();
});
