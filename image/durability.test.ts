// An image that counts as present is on disk; leftovers of a killed process are removed.

import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { loadHost } from "../native/index.ts";
import { flushesOf } from "../native/testing/flushes.ts";
import { makeImage, makeLayer, makeTar } from "./testing/build-image.ts";
import { listStore, openTestStore } from "./testing/store.ts";
import { startWrongRegistry } from "./testing/wrong-registry.ts";

const never = new AbortController().signal;
const run = promisify(execFile);

/** A module that pulls images into a store, one after the other. */
function pullProgram(root: string, names: readonly string[]): string {
  return `
    import { loadHost, nativePaths, unpackLayer } from "./native/index.ts";
    import { openImageStore, storeDefaults } from "./image/store.ts";
    const store = await openImageStore({
      ...storeDefaults, root: ${JSON.stringify(root)}, hostsDirectory: "/nonexistent", host: loadHost(),
      proxyFor: () => undefined,
      unpack: (options) => unpackLayer(nativePaths().unpacker, options),
      platform: { os: "linux", architecture: "amd64", variant: "" }, now: Date.now, onProblem: console.error,
    });
    for (const name of ${JSON.stringify(names)}) await store.pull(name, undefined, new AbortController().signal);
    await store.close();`;
}

test("everything is in place and flushed before the image is named", async () => {
  const registry = await startWrongRegistry();
  const layers = ["a", "b"].map((name) => makeLayer(makeTar([{ name, content: name }])));
  const image = makeImage({ layers });
  registry.add(image, "1");
  const host = loadHost();
  const flushed: { readonly paths: readonly string[]; readonly isNamed: boolean }[] = [];
  const it = await openTestStore({
    host: {
      ...host,
      syncFileSystem: async (descriptor) => {
        await host.syncFileSystem(descriptor);
        const paths = await listStore(it.root);
        flushed.push({ paths, isNamed: paths.includes("index.json") });
      },
    },
  });
  await it.store.pull(`${registry.address}/app:1`, undefined, never);
  expect(flushed).toHaveLength(1);
  expect(flushed[0]?.isNamed).toBe(false);
  for (const digest of [image.digest, image.id, ...layers.map((layer) => layer.digest)]) {
    expect(flushed[0]?.paths).toContain(`blobs/sha256/${digest.slice(7)}`);
  }
  for (const layer of layers) expect(flushed[0]?.paths).toContain(`layers/${layer.diffId.slice(7)}/layer.json`);
  await it.dispose();
  await registry.stop();
});

test("names are durable, and so are updates to the record of an existing layer", async () => {
  const registry = await startWrongRegistry();
  const tar = makeTar([{ name: "same", content: "same" }]);
  const [gzip, zstd] = [makeLayer(tar, "gzip"), makeLayer(tar, "zstd")];
  for (const layer of [gzip, zstd]) registry.add(makeImage({ layers: [layer] }), layer.digest.slice(7));
  const it = await openTestStore();
  await it.store.close();
  const names = [gzip, zstd].map(({ digest }) => `${registry.address}/app:${digest.slice(7)}`);
  const flushed = (await flushesOf(pullProgram(it.root, names))).map((file) => path.relative(it.root, file));
  const record = `layers/${gzip.diffId.slice(7)}`;
  expect(flushed).toEqual(["index.json.new", "", `${record}/layer.json.new`, record, "index.json.new", ""]);
  await it.dispose();
  await registry.stop();
});

test("the next process removes everything that a process left when it was killed during a pull", async () => {
  const done = makeLayer(makeTar([{ name: "done", content: "done" }]));
  const held = makeLayer(makeTar([{ name: "held", content: randomBytes(300_000) }]));
  const registry = await startWrongRegistry((request, response) => {
    if (!request.url.includes(held.digest)) return false;
    response.writeHead(200, { "content-length": held.blob.length });
    response.write(held.blob.subarray(0, 100_000));
    return true;
  });
  registry.add(makeImage({ layers: [done, held] }), "1");
  const it = await openTestStore();
  const before = await listStore(it.root);
  await it.store.close();
  const program = pullProgram(it.root, [`${registry.address}/app:1`]);
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    stdio: ["ignore", "ignore", "inherit"],
  });
  const placed = async () => {
    const staging = await readdir(path.join(it.root, "staging"));
    const layers = await readdir(path.join(it.root, "layers"));
    return registry.seen(held.digest).length > 0 && staging.length > 0 && layers.length > 0;
  };
  while (!(await placed()) && child.exitCode === null) await sleep(10);
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(await listStore(it.root)).not.toEqual(before);

  const again = await it.reopen();

  await expect.poll(() => listStore(it.root)).toEqual(before);
  expect(again.store.list()).toEqual([]);
  await again.dispose();
  await registry.stop();
});

test("a writable layer mounts over the image's layers, including whiteouts, and everybody may enter its root", async () => {
  const layers = [
    makeTar([
      { name: "./", mode: 0o700 },
      { name: "kept", content: "kept" },
      { name: "gone", content: "gone" },
    ]),
    makeTar([
      { name: "./", mode: 0o700 },
      { name: ".wh.gone", content: "" },
      { name: "fresh", content: "fresh" },
    ]),
  ].map((tar) => makeLayer(tar));
  const registry = await startWrongRegistry();
  registry.add(makeImage({ layers }), "1");
  const it = await openTestStore();
  const pulled = await it.store.pull(`${registry.address}/app:1`, undefined, never);
  const { lower, upper, work } = await it.store.prepareSnapshot("c0ffee", pulled.id);
  const mountpoint = await mkdtemp(path.join(tmpdir(), "keelson-mount-"));
  const options = `lowerdir=${lower.join(":")},upperdir=${upper},workdir=${work}`;
  await run("mount", ["-t", "overlay", "keelson-test", "-o", options, mountpoint]);
  try {
    expect((await readdir(mountpoint)).sort()).toEqual(["fresh", "kept"]);
    await writeFile(path.join(mountpoint, "kept"), "changed");
    await mkdir(path.join(mountpoint, "made"));
    const { stdout } = await run("stat", ["-c", "%a %u", mountpoint]);
    expect(stdout.trim()).toBe("755 0");
  } finally {
    await run("umount", [mountpoint]);
    await rm(mountpoint, { recursive: true });
  }
  expect(await readFile(path.join(lower[1] ?? "", "kept"), "utf8")).toBe("kept");
  expect((await readdir(upper)).sort()).toEqual(["kept", "made"]);
  await it.store.removeSnapshot("c0ffee");
  expect(await readdir(path.join(it.root, "containers"))).toEqual([]);
  await it.dispose();
  await registry.stop();
});

test("a whiteout without a file in the layers below leaves no dangling name", async () => {
  const layers = [
    makeTar([{ name: "bottom/.wh.gone" }, { name: "bottom/kept", content: "kept" }]),
    makeTar([{ name: "only/.wh..wh..opq" }, { name: "only/.wh.gone" }, { name: "only/kept", content: "kept" }]),
  ].map((tar) => makeLayer(tar));
  const registry = await startWrongRegistry();
  registry.add(makeImage({ layers }), "1");
  const it = await openTestStore();
  const pulled = await it.store.pull(`${registry.address}/app:1`, undefined, never);
  const mountpoint = await mkdtemp(path.join(tmpdir(), "keelson-mount-"));
  await run("mount", ["-t", "overlay", "keelson-test", "-o", `lowerdir=${pulled.layers.join(":")}`, mountpoint]);
  try {
    for (const name of ["bottom", "only"]) expect(await readdir(path.join(mountpoint, name))).toEqual(["kept"]);
  } finally {
    await run("umount", [mountpoint]);
    await rm(mountpoint, { recursive: true });
  }
  await it.dispose();
  await registry.stop();
});
