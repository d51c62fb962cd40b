// A store that is reopened: complete content is recovered; damaged or stuck content affects only its own image.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { access, mkdir, open, readdir, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { loadHost } from "../native/index.ts";
import { pushImage, tinyImage } from "./testing/build-image.ts";
import { useRegistryStore } from "./testing/registry-store.ts";
import { listStore, type TestStore } from "./testing/store.ts";

const run = promisify(execFile);
const never = new AbortController().signal;
const { it, registry } = useRegistryStore();

test("everything is recovered after a restart; damaged or incomplete content is removed and reported", async () => {
  const [whole, broken] = [tinyImage("whole"), tinyImage("broken")];
  await pushImage(registry(), "whole", whole, "latest");
  await pushImage(registry(), "broken", broken, "latest");
  await it().store.pull(`${registry().address}/whole`, undefined, never);
  await it().store.pull(`${registry().address}/broken`, undefined, never);
  const before = it().store.find(whole.id);
  const listing = await listStore(it().root);
  await it().store.close();
  // As after a power cut on a store that did not sync: an empty blob with a valid record.
  await truncate(path.join(it().root, "blobs/sha256", broken.layers[0]?.digest.slice(7) ?? ""), 0);
  await mkdir(path.join(it().root, "staging/work-left/layer/root"), { recursive: true });
  await mkdir(path.join(it().root, "containers/abc/upper"), { recursive: true });
  await mkdir(path.join(it().root, "layers", "0".repeat(64), "root"), { recursive: true });
  await writeFile(path.join(it().root, "blobs/sha256", "1".repeat(64)), "nobody's");

  const again = await it().reopen();

  expect(again.store.list()).toEqual([before]);
  expect(again.problems).toEqual([expect.stringContaining("/broken")]);
  await again.store.pull(`${registry().address}/broken`, undefined, never);
  await expect.poll(() => listStore(it().root)).toEqual(listing);
  await again.dispose();
});

test("everything is available while incomplete leftovers, possibly millions of files, are being removed", async () => {
  const image = tinyImage("meanwhile");
  await pushImage(registry(), "meanwhile", image, "latest");
  const reference = `${registry().address}/meanwhile`;
  await it().store.close();
  const left = ["staging/work-left", "containers/abc", `layers/${"0".repeat(64)}`].map((place) =>
    path.join(it().root, place, "large"),
  );
  for (const directory of left) await mkdir(directory, { recursive: true });
  const host = loadHost();
  const { promise: isTime, resolve: goOn } = Promise.withResolvers<void>();
  const removeTree = async (tree: string) => {
    if (existsSync(path.join(tree, "large"))) await isTime;
    await host.removeTree(tree);
  };

  const again = await it().reopen({ host: { ...host, removeTree } });
  const { id } = await again.store.pull(reference, undefined, never);
  await again.store.prepareSnapshot("ab01", id);
  await again.store.removeSnapshot("ab01");
  await again.store.remove(reference);
  expect(await readdir(path.join(it().root, "staging"))).toHaveLength(3);
  goOn();
  await expect.poll(() => readdir(path.join(it().root, "staging"))).toEqual([]);
  await again.dispose();
});

test("the store opens despite content that cannot be removed or read, and removes it when possible", async () => {
  const image = tinyImage("needed");
  await pushImage(registry(), "needed", image, "latest");
  const reference = `${registry().address}/needed`;
  const { id, layers } = await it().store.pull(reference, undefined, never);
  await it().store.prepareSnapshot("ab03", id);
  await it().store.remove(reference);
  await it().store.close();
  const record = path.join(it().root, "containers/ab03/snapshot.json");
  const kept = await readFile(record);
  // Reading a directory fails like a bad sector, not like a missing file.
  await rm(record);
  await mkdir(record);
  for (const place of ["staging/work-left", "containers/ab04"]) {
    await mkdir(path.join(it().root, place, "stuck"), { recursive: true });
  }
  const host = loadHost();
  let isStuck = true;
  const removeTree = async (tree: string) => {
    if (isStuck && existsSync(path.join(tree, "stuck"))) throw new Error(`${tree} is immutable`);
    await host.removeTree(tree);
  };

  const again = await it().reopen({ host: { ...host, removeTree } });
  await expect
    .poll(() => [...again.problems].sort())
    .toEqual([
      expect.stringMatching(/staging\/trash-.*, .*immutable/),
      expect.stringMatching(/staging\/work-left, .*immutable/),
      expect.stringMatching(/containers\/ab03 could not be read.*EISDIR/),
    ]);
  expect(again.store.snapshots()).toEqual([]);
  isStuck = false;
  await again.store.pull(reference, undefined, never);
  await again.store.remove(reference);
  expect(await readdir(path.join(it().root, "staging"))).toEqual([]);
  for (const layer of layers) await access(layer);
  await again.store.close();

  await rm(record, { recursive: true });
  await writeFile(record, kept);
  const last = await it().reopen();
  expect(last.problems).toEqual([]);
  expect(last.store.snapshots()).toEqual(["ab03"]);
  await last.dispose();
});

test("an unreadable blob, layer or list affects only its own images", async () => {
  const images = ["blob", "record", "whole"].map((name) => tinyImage(name));
  const references = images.map(({ id }) => `${registry().address}/unread-${id.slice(7, 20)}`);
  for (const [index, image] of images.entries()) {
    await pushImage(registry(), references[index]?.split("/")[1] ?? "", image, "latest");
  }
  const pull = (store: TestStore) =>
    Promise.all(references.map((reference) => store.store.pull(reference, undefined, never)));
  const [, record] = await pull(it());
  if (record === undefined) throw new Error("three images");
  await it().store.prepareSnapshot("ab05", record.id);
  await it().store.close();
  const [unread = ""] = images[0]?.layers.map(({ digest }) => `blobs/sha256/${digest.slice(7)}`) ?? [];
  await rm(path.join(it().root, unread));
  // Following a link to itself and reading a directory fail like a bad sector, not like a missing file.
  await symlink(path.basename(unread), path.join(it().root, unread));
  const layer = path.dirname(record.layers[0] ?? "");
  await rm(path.join(layer, "layer.json"));
  await mkdir(path.join(layer, "layer.json"));

  const again = await it().reopen();
  expect(again.store.list().map(({ id }) => id)).toEqual([images[2]?.id]);
  expect(again.problems).toEqual(
    expect.arrayContaining([
      expect.stringMatching(`${unread} could not be read.*ELOOP`),
      expect.stringMatching(`${layer} could not be read.*EISDIR`),
    ]),
  );
  const running = await open(path.join(record.layers[0] ?? "", "etc"));
  await pull(again);
  // The container that runs on the layer keeps its files.
  expect(await readdir(`/proc/self/fd/${running.fd}`)).toEqual(["record"]);
  await running.close();
  await again.store.remove(record.id);
  await again.store.removeSnapshot("ab05");
  expect(existsSync(layer)).toBe(false);
  await again.store.close();

  await rm(path.join(it().root, "index.json"));
  await mkdir(path.join(it().root, "index.json"));
  const last = await it().reopen();
  expect(last.problems).toEqual([expect.stringMatching("index.json.damaged")]);
  expect(await pull(last)).toHaveLength(3);
  await last.dispose();
});

test("content that cannot be moved out of the store is reported once and does not block other removals", async () => {
  const images = ["stuck", "free"].map((name) => tinyImage(name));
  const references = images.map(({ id }) => `${registry().address}/moved-${id.slice(7, 20)}`);
  for (const [index, image] of images.entries()) {
    await pushImage(registry(), references[index]?.split("/")[1] ?? "", image, "latest");
  }
  const [stuck = "", free = ""] = references;
  const layer = path.dirname((await it().store.pull(stuck, undefined, never)).layers[0] ?? "");
  await it().store.pull(free, undefined, never);
  await run("mount", ["--bind", layer, layer]);
  try {
    await it().store.remove(stuck);
    await it().store.remove(free);
    await expect(it().store.pull(`${registry().address}/none`, undefined, never)).rejects.toMatchObject({
      name: "notInRegistry",
    });
    expect(await readdir(path.join(it().root, "layers"))).toEqual([path.basename(layer)]);
    expect(await readdir(path.join(it().root, "blobs/sha256"))).toEqual([]);
    expect(it().problems).toEqual([expect.stringMatching(`${layer}, which is no longer needed, .*EBUSY`)]);
  } finally {
    await run("umount", [layer]);
  }
  await it().store.pull(free, undefined, never);
  await it().store.remove(free);
  expect(await readdir(path.join(it().root, "layers"))).toEqual([]);
});

test("a damaged list of images is renamed, and the store opens", async () => {
  await it().store.close();
  await writeFile(path.join(it().root, "index.json"), "{");
  const again = await it().reopen();
  expect(again.problems).toEqual([expect.stringContaining("index.json.damaged")]);
  expect(again.store.list()).toEqual([]);
  await again.dispose();
});
