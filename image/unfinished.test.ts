// Interrupted pulls and their retries: arrived content is not fetched again, but is verified, and is removed in time.

import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { storeDefaults } from "./store.ts";
import { bulkyLayer, makeImage, makeLayer, makeTar } from "./testing/build-image.ts";
import { usePulls } from "./testing/pulls.ts";
import { listStore, openTestStore, type TestStore } from "./testing/store.ts";
import { type Interception, startWrongRegistry } from "./testing/wrong-registry.ts";

const run = promisify(execFile);
const never = new AbortController().signal;
const { serve } = usePulls();
const small = makeLayer(makeTar([{ name: "small", content: "whole" }]));
const large = bulkyLayer(3_000_000);
const image = makeImage({ layers: [small, large] });
const half = 1_000_000;

async function storeThatKeeps(keepUnfinishedMs: number): Promise<TestStore> {
  // One after the other: a layer before the one that breaks is complete by then.
  const opened = await openTestStore({ keepUnfinishedMs, parallelLayers: 1 });
  onTestFinished(() => opened.dispose());
  return opened;
}

interface Trouble {
  /** While set, the connection breaks at `half` bytes of the large layer each time. */
  on: boolean;
  /** The bytes that it sends until then. */
  bytes: Buffer;
  /** What it waits for before it breaks; nothing when absent. */
  until?: () => Promise<void>;
}

function breaking(trouble: Trouble): Interception {
  return (request, response) => {
    if (!trouble.on || !request.url.includes(large.digest)) return false;
    const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const range = { "content-range": `bytes ${start}-${large.blob.length - 1}/${large.blob.length}` };
    response.writeHead(start > 0 ? 206 : 200, { "content-length": large.blob.length - start, ...(start > 0 && range) });
    // With a FIN: a reset would also discard data that the client has not read yet.
    response.write(trouble.bytes.subarray(start, half), async () => {
      await trouble.until?.();
      response.socket?.end();
    });
    return true;
  };
}

/** Resolves when this many bytes of the image's layers have arrived. */
async function arrived({ store }: TestStore, reference: string, bytes: number): Promise<void> {
  while (((await store.transfer(reference))?.done ?? 0) < bytes) await sleep(5);
}

async function broken({ store }: TestStore, reference: string): Promise<void> {
  await expect(store.pull(reference, undefined, never)).rejects.toMatchObject({ code: "Unknown" });
  expect(store.list()).toEqual([]);
}

test("the next pull resumes at the byte where the network broke, and fetches no complete layer twice", async () => {
  const opened = await storeThatKeeps(storeDefaults.keepUnfinishedMs);
  const trouble = { on: true, bytes: large.blob };
  const served = await serve(breaking(trouble));
  served.add(image, "1");
  await broken(opened, `${served.address}/broken:1`);
  trouble.on = false;
  const before = served.seen(large.digest).length;

  expect((await opened.store.pull(`${served.address}/broken:1`, undefined, never)).id).toBe(image.id);
  const again = served.seen(large.digest).slice(before);
  expect(again.map(({ headers }) => headers.range)).toEqual([expect.stringMatching(/^bytes=\d{5,}-\d+$/)]);
  expect(served.seen(small.digest)).toHaveLength(1);
  expect(await readdir(path.join(opened.root, "staging"))).toEqual([]);
});

test("a retry after the caller gave up resumes with the content that had arrived", async () => {
  const opened = await storeThatKeeps(storeDefaults.keepUnfinishedMs);
  const giveUp = new AbortController();
  let holds = true;
  const served = await serve((request, response) => {
    if (!holds || !request.url.includes(large.digest)) return false;
    holds = false;
    response.writeHead(200, { "content-length": large.blob.length });
    response.write(large.blob.subarray(0, half), () => setTimeout(() => giveUp.abort(), 200));
    return true;
  });
  served.add(image, "1");
  await expect(opened.store.pull(`${served.address}/left:1`, undefined, giveUp.signal)).rejects.toThrow();
  expect((await opened.store.pull(`${served.address}/left:1`, undefined, never)).id).toBe(image.id);
  expect(served.seen(large.digest)[1]?.headers.range).toMatch(/^bytes=\d{5,}-\d+$/);
});

test("a retry after the caller gave up past the last byte fetches nothing", async () => {
  const opened = await storeThatKeeps(storeDefaults.keepUnfinishedMs);
  const giveUp = new AbortController();
  const served = await serve((request, response) => {
    if (!request.url.includes(large.digest) || request.headers.range !== undefined) return false;
    response.write(large.blob);
    return true;
  });
  served.add(image, "1");
  const reference = `${served.address}/left:1`;
  const left = opened.store.pull(reference, undefined, giveUp.signal);
  left.catch(() => undefined);
  await arrived(opened, reference, small.blob.length + large.blob.length);
  giveUp.abort();
  await expect(left).rejects.toThrow();
  expect((await opened.store.pull(reference, undefined, never)).id).toBe(image.id);
  expect(served.seen(large.digest)).toHaveLength(1);
});

test("a head with wrong bytes costs another fetch but does not fail the pull", async () => {
  const opened = await storeThatKeeps(storeDefaults.keepUnfinishedMs);
  // The gzip header and the first blocks are correct, otherwise the unpacker would refuse it at once.
  const wrong = Buffer.from(large.blob);
  wrong.fill(0x5a, half - 200_000, half);
  const trouble: Trouble = { on: true, bytes: wrong };
  const served = await serve(breaking(trouble));
  served.add(image, "1");
  const reference = `${served.address}/wrong:1`;
  // The wrong bytes come last: the end of the connection must not discard them.
  trouble.until = async () => await arrived(opened, reference, small.blob.length + half);
  await opened.store.pull(reference, undefined, never).catch(() => undefined);
  trouble.on = false;
  const before = served.seen(large.digest).length;
  expect((await opened.store.pull(reference, undefined, never)).id).toBe(image.id);
  const ranges = served.seen(large.digest).map(({ headers }) => headers.range);
  expect(ranges.slice(before)).toEqual([expect.stringMatching(/^bytes=\d{5,}-\d+$/), undefined]);
});

test("unfinished content is removed when it expires, when an image is removed, and when the daemon stops", async () => {
  const trouble = { on: true, bytes: large.blob };
  const served = await serve(breaking(trouble));
  served.add(image, "1");
  const other = makeImage({ layers: [small] });
  served.add(other, "2");
  const reference = `${served.address}/broken:1`;

  const brief = await storeThatKeeps(50);
  const empty = await listStore(brief.root);
  await broken(brief, reference);
  await expect.poll(() => listStore(brief.root), { timeout: 5_000 }).toEqual(empty);

  const patient = await storeThatKeeps(storeDefaults.keepUnfinishedMs);
  await patient.store.pull(`${served.address}/other:2`, undefined, never);
  await expect(patient.store.pull(reference, undefined, never)).rejects.toMatchObject({ code: "Unknown" });
  expect(await readdir(path.join(patient.root, "staging"))).toHaveLength(1);
  await patient.store.remove(`${served.address}/other:2`);
  const listed = ["index.json", ...empty].sort();
  expect(await listStore(patient.root)).toEqual(listed);

  await broken(patient, reference);
  await patient.store.close();
  const next = await patient.reopen();
  onTestFinished(() => next.store.close());
  await expect.poll(() => listStore(next.root)).toEqual(listed);
});

/** A store with a disk of this many bytes. */
async function storeOfBytes(size: number): Promise<TestStore> {
  const { store, root, reopen } = await storeThatKeeps(storeDefaults.keepUnfinishedMs);
  await store.close();
  await run("mount", ["-t", "tmpfs", "-o", `size=${size}`, "keelson-test", root]);
  onTestFinished(async () => void (await run("umount", [root])));
  const opened = await reopen();
  onTestFinished(() => opened.store.close());
  return opened;
}

test("unfinished content is removed when another pull fills the disk", async () => {
  const other = makeImage({ layers: [bulkyLayer(3_000_000)] });
  const served = await serve(breaking({ on: true, bytes: large.blob }));
  served.add(image, "1");
  served.add(other, "2");
  const opened = await storeOfBytes(6_300_000);
  await broken(opened, `${served.address}/broken:1`);
  const reference = `${served.address}/other:2`;
  await expect(opened.store.pull(reference, undefined, never)).rejects.toMatchObject({ code: "ResourceExhausted" });
  expect((await opened.store.pull(reference, undefined, never)).id).toBe(other.id);
});

test("unfinished content is removed when there is no room for it and the complete layer", async () => {
  const trouble = { on: true, bytes: large.blob };
  const served = await serve(breaking(trouble));
  served.add(image, "1");
  const opened = await storeOfBytes(6_300_000);
  await broken(opened, `${served.address}/broken:1`);
  trouble.on = false;
  expect((await opened.store.pull(`${served.address}/broken:1`, undefined, never)).id).toBe(image.id);
});

test("unfinished content is removed when the layer arrives from another registry", async () => {
  const opened = await storeThatKeeps(storeDefaults.keepUnfinishedMs);
  const { promise: isOver, resolve: goOn } = Promise.withResolvers<void>();
  const held = await startWrongRegistry(async (request) => {
    if (request.url.includes(large.digest)) await isOver;
    return false;
  });
  onTestFinished(() => held.stop());
  held.add(image, "1");
  const served = await serve(breaking({ on: true, bytes: large.blob }));
  served.add(image, "1");
  const pulling = opened.store.pull(`${held.address}/whole:1`, undefined, never);
  while (held.seen(large.digest).length === 0) await sleep(5);
  await broken(opened, `${served.address}/broken:1`);
  expect(await readdir(path.join(opened.root, "staging"))).toContainEqual(expect.stringMatching(/^head-/));
  goOn();
  expect((await pulling).id).toBe(image.id);
  expect(await readdir(path.join(opened.root, "staging"))).toEqual([]);
});

test("at most eight unfinished pulls are kept", async () => {
  const opened = await storeThatKeeps(storeDefaults.keepUnfinishedMs);
  const images = Array.from({ length: 10 }, (_, at) => {
    const own = makeLayer(makeTar([{ name: `own-${at}`, content: "x" }]));
    return makeImage({ layers: [own, large] });
  });
  const served = await serve(breaking({ on: true, bytes: large.blob }));
  for (const [at, each] of images.entries()) served.add(each, String(at));
  for (const [at] of images.entries()) await broken(opened, `${served.address}/many:${at}`);
  await expect.poll(() => readdir(path.join(opened.root, "layers")), { timeout: 10_000 }).toHaveLength(8);
});
