// Pulls when the kernel failed to write content that one of them had placed.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { loadHost } from "../native/index.ts";
import { type BuiltLayer, bulkyLayer, makeImage, makeLayer, makeTar } from "./testing/build-image.ts";
import { usePulls } from "./testing/pulls.ts";
import { listStore, openTestStore, type TestStore } from "./testing/store.ts";

const never = new AbortController().signal;
const { serve } = usePulls();
const run = promisify(execFile);
const shared = bulkyLayer(50_000);

/** A store whose flushes the test controls: `next` may throw instead of one. */
async function storeOnDisk(
  next: () => Promise<void>,
): Promise<TestStore & { readonly descriptors: readonly number[] }> {
  const host = loadHost();
  const descriptors: number[] = [];
  const it = await openTestStore({
    parallelLayers: 1,
    host: {
      ...host,
      syncFileSystem: async (descriptor) => {
        descriptors.push(descriptor);
        await next();
        await host.syncFileSystem(descriptor);
      },
    },
  });
  onTestFinished(() => it.dispose());
  return { ...it, descriptors };
}

function smallLayer(name: string): BuiltLayer {
  return makeLayer(makeTar([{ name, content: name }]));
}

async function until(condition: () => unknown): Promise<void> {
  while (!condition()) await sleep(5);
}

test("a failed flush fails every pull that relied on content that may be lost, which is then fetched again", async () => {
  const flush = Promise.withResolvers<void>();
  // The kernel reports the error once.
  const outcomes = [flush.promise];
  const it = await storeOnDisk(async () => await outcomes.pop());
  const blocker = smallLayer("blocker");
  const release = Promise.withResolvers<void>();
  const served = await serve(async ({ url }) => {
    if (url.includes(blocker.digest)) await release.promise;
    return false;
  });
  const names = ["flushing", "half-fetched", "waiting"].map((tag) => `${served.address}/app:${tag}`);
  const [flushing = "", halfFetched = "", waiting = ""] = names;
  served.add(makeImage({ layers: [shared] }), "flushing");
  served.add(makeImage({ layers: [blocker] }), "half-fetched");
  served.add(makeImage({ layers: [shared, smallLayer("late")] }), "waiting");
  const before = await listStore(it.root);
  const settled: Promise<unknown>[] = [];
  const pull = (name: string) => {
    settled.push(it.store.pull(name, undefined, never).catch((error: unknown) => error));
  };
  // The first pull has its layer in place, the second has one that is staged, the third relies on the first's layer and
  // waits for a slot.
  pull(flushing);
  await until(() => it.descriptors.length === 1);
  pull(halfFetched);
  await until(() => served.seen(blocker.digest).length === 1);
  pull(waiting);
  while ((await it.store.transfer(waiting)) === undefined) await sleep(5);

  flush.reject(new Error("EIO"));
  await settled[0];
  release.resolve();

  const refused = { code: "Unavailable", message: expect.stringContaining("EIO") };
  expect(await Promise.all(settled)).toEqual(names.map(() => expect.objectContaining(refused)));
  expect(it.store.list()).toEqual([]);
  expect(await listStore(it.root)).toEqual(before);
  for (const name of names) await it.store.pull(name, undefined, never);
  expect(served.seen(shared.digest)).toHaveLength(2);
});

test("existing content is neither rewritten nor affected by another image's failed flush", async () => {
  let fails = false;
  const it = await storeOnDisk(async () => {
    if (fails) throw new Error("EIO");
  });
  const served = await serve();
  const [image, other] = (["oci", "docker"] as const).map((form) => makeImage({ layers: [shared], form }));
  if (image === undefined || other === undefined) throw new Error("two images");
  expect(other.id).toBe(image.id);
  served.add(image, "1");
  served.add(other, "2");
  await it.store.pull(`${served.address}/app:1`, undefined, never);
  const list = await listStore(it.root);

  fails = true;
  await expect(it.store.pull(`${served.address}/app:2`, undefined, never)).rejects.toMatchObject({
    code: "Unavailable",
  });
  expect(await listStore(it.root)).toEqual(list);
  fails = false;
  await it.store.pull(`${served.address}/app:2`, undefined, never);
  expect(new Set(it.descriptors).size).toBe(1);
});

test("a pull of an existing image flushes nothing, and rewrites the list only for a new name", async () => {
  const it = await storeOnDisk(async () => undefined);
  const served = await serve();
  const image = makeImage({ layers: [shared] });
  served.add(image, "1");
  served.add(image, "2");
  await it.store.pull(`${served.address}/app:1`, undefined, never);
  const index = () => stat(path.join(it.root, "index.json")).then(({ ino }) => ino);
  const written = await index();

  await it.store.pull(`${served.address}/app:1`, undefined, never);
  expect(await index()).toBe(written);
  const { tags } = await it.store.pull(`${served.address}/app:2`, undefined, never);
  expect(tags).toHaveLength(2);
  expect(await index()).not.toBe(written);
  expect(it.descriptors).toHaveLength(1);
});

/** ext4 on a loop device with a sparse file on a tmpfs: filling the tmpfs makes ext4 lose its unwritten data. */
async function fragileDisk() {
  const directory = await mkdtemp(path.join(tmpdir(), "keelson-fragile-"));
  const script = `
    mkdir disk backing
    mount -t tmpfs -o size=64m keelson-test backing
    truncate -s 256m backing/image
    mkfs.ext4 -q -O ^has_journal -E nodiscard,lazy_itable_init=0 backing/image
    mount -o loop backing/image disk`;
  onTestFinished(async () => {
    await run("sh", ["-c", "umount -l disk; umount -l backing"], { cwd: directory }).catch(() => undefined);
    await rm(directory, { recursive: true });
  });
  await run("sh", ["-ec", script], { cwd: directory });
  return {
    root: path.join(directory, "disk", "image"),
    fill: () => run("dd", ["if=/dev/zero", "of=backing/filler", "bs=1M"], { cwd: directory }).catch(() => undefined),
    makeRoom: () => rm(path.join(directory, "backing", "filler")),
  };
}

test.skipIf(!existsSync("/dev/loop-control"))(
  "a disk that loses one pull's bytes fails the flush of another pull, too",
  async () => {
    const disk = await fragileDisk();
    const it = await openTestStore({ root: disk.root });
    onTestFinished(() => it.dispose());
    const large = makeLayer(makeTar([{ name: "large", content: randomBytes(20_000_000) }]), "none");
    const held = smallLayer("held");
    const release = Promise.withResolvers<void>();
    const served = await serve(async ({ url }) => {
      if (url.includes(held.digest)) await release.promise;
      return false;
    });
    served.add(makeImage({ layers: [large, held] }), "losing");
    served.add(makeImage({ layers: [smallLayer("small")] }), "told");
    const losing = it.store.pull(`${served.address}/app:losing`, undefined, never).catch((error: unknown) => error);
    while ((await readdir(path.join(disk.root, "layers"))).length === 0) await sleep(10);

    await disk.fill();
    const told = await it.store.pull(`${served.address}/app:told`, undefined, never).catch((error: unknown) => error);
    await disk.makeRoom();
    release.resolve();

    const refused = expect.objectContaining({ code: "Unavailable", message: expect.stringContaining("syncfs") });
    expect([told, await losing]).toEqual([refused, refused]);
    expect((await it.store.pull(`${served.address}/app:losing`, undefined, never)).tags).toHaveLength(1);
  },
);
