// Concurrent pulls: the work they share, and the effect on others when one gives up or fails.

import { access } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type BuiltLayer, bulkyLayer, makeImage } from "./testing/build-image.ts";
import { usePulls } from "./testing/pulls.ts";
import { listStore, openTestStore } from "./testing/store.ts";
import { type Interception, startWrongRegistry } from "./testing/wrong-registry.ts";

const never = new AbortController().signal;
const { it, serve } = usePulls();

/** Sends these layers a byte at a time, without ever completing or stalling. */
function dribbling(layers: readonly BuiltLayer[]): Interception {
  return ({ url }, response) => {
    const blob = layers.find(({ digest }) => url.includes(digest))?.blob;
    if (blob === undefined) return false;
    response.writeHead(200, { "content-length": blob.length });
    let sent = 0;
    const timer = setInterval(() => response.write(blob.subarray(sent, ++sent)), 100);
    response.once("close", () => clearInterval(timer));
    return true;
  };
}

describe("concurrent pulls", () => {
  const layer = bulkyLayer(200_000);

  test("equal pulls share the work", async () => {
    const served = await serve();
    const image = makeImage({ layers: [layer] });
    served.add(image, "1");
    const name = `${served.address}/shared:1`;
    const pulled = await Promise.all(Array.from({ length: 5 }, () => it().store.pull(name, undefined, never)));
    expect(new Set(pulled.map(({ id }) => id))).toEqual(new Set([image.id]));
    expect(served.seen("/manifests/")).toHaveLength(1);
  });

  test("pulls with different credentials do not share it: a caller with invalid ones fails", async () => {
    const good = `Basic ${Buffer.from("ann:s3cret").toString("base64")}`;
    const served = await serve((request, response) => {
      if (request.headers.authorization === good) return false;
      response.writeHead(401, { "www-authenticate": "Basic" }).end();
      return true;
    });
    const image = makeImage({ layers: [layer] });
    served.add(image, "1");
    const name = `${served.address}/private:1`;
    const none = { auth: "", identityToken: "", registryToken: "", serverAddress: "" };
    const [anns, bobs] = await Promise.allSettled(
      ["s3cret", "guessed"].map((password) => it().store.pull(name, { ...none, username: "ann", password }, never)),
    );
    expect(anns).toMatchObject({ status: "fulfilled", value: { id: image.id } });
    expect(bobs).toMatchObject({ status: "rejected", reason: { code: "Unauthenticated" } });
  });

  test("different images share the layer they have in common", async () => {
    const served = await serve();
    served.add(makeImage({ layers: [layer], comment: "a" }), "a");
    served.add(makeImage({ layers: [layer], comment: "b" }), "b");
    await Promise.all(["a", "b"].map((tag) => it().store.pull(`${served.address}/common:${tag}`, undefined, never)));
    expect(served.seen(layer.digest)).toHaveLength(1);
    expect(it().store.list()).toHaveLength(2);
  });

  test("a registry that fails on a common layer does not fail the other's pull", async () => {
    const served = await serve();
    const bad = await startWrongRegistry(async (request, response) => {
      if (!request.url.includes(layer.digest)) return false;
      await sleep(200);
      response.writeHead(403).end();
      return true;
    });
    const [first, second] = ["a", "b"].map((comment) => makeImage({ layers: [layer], comment }));
    if (first === undefined || second === undefined) throw new Error("two images");
    bad.add(first, "1");
    served.add(second, "1");
    const failing = it().store.pull(`${bad.address}/common:1`, undefined, never);
    while (bad.seen(layer.digest).length === 0) await sleep(5);
    const working = it().store.pull(`${served.address}/common:1`, undefined, never);
    await expect(failing).rejects.toMatchObject({ code: "PermissionDenied" });
    expect((await working).id).toBe(second.id);
    await bad.stop();
  });

  /** Holds the layer back until released. */
  async function holding() {
    const { promise, resolve } = Promise.withResolvers<void>();
    const served = await serve(async (request) => {
      if (request.url.includes(layer.digest)) await promise;
      return false;
    });
    served.add(makeImage({ layers: [layer] }), "1");
    return { served, name: `${served.address}/held:1`, letGo: resolve };
  }

  test("a caller that gives up does not affect the others", async () => {
    const { served, name, letGo } = await holding();
    const leaving = new AbortController();
    const left = it().store.pull(name, undefined, leaving.signal);
    const staying = it().store.pull(name, undefined, never);
    while (served.seen(layer.digest).length === 0) await sleep(5);
    leaving.abort();
    await expect(left).rejects.toMatchObject({ code: "Cancelled" });
    letGo();
    expect((await staying).tags).toEqual([name]);
    expect(served.seen(layer.digest)).toHaveLength(1);
  });

  test("when the last caller gives up, the pull is rolled back, and a new one starts from scratch", async () => {
    const before = await listStore(it().root);
    const { served, name, letGo } = await holding();
    const leaving = new AbortController();
    const left = it().store.pull(name, undefined, leaving.signal);
    while (served.seen(layer.digest).length === 0) await sleep(5);
    leaving.abort();
    await expect(left).rejects.toMatchObject({ code: "Cancelled" });
    await expect.poll(() => listStore(it().root)).toEqual(before);
    letGo();
    expect((await it().store.pull(name, undefined, never)).tags).toEqual([name]);
  });

  test("closing the store ends a pull in progress without leftovers", async () => {
    const before = await listStore(it().root);
    const { served, name } = await holding();
    const pulling = it().store.pull(name, undefined, never);
    pulling.catch(() => undefined);
    while (served.seen(layer.digest).length === 0) await sleep(5);
    await it().store.close();
    await expect(pulling).rejects.toMatchObject({
      code: "Cancelled",
      message: expect.stringContaining(`${name} was not pulled or loaded, because the daemon is stopping.`),
    });
    expect(await listStore(it().root)).toEqual(before);
  });

  test("removing an image does not affect a pull that shares its layers", async () => {
    const served = await serve();
    const layers = Array.from({ length: 6 }, (_, index) => bulkyLayer(50_000 + index));
    const [one, two] = [makeImage({ layers, comment: "1" }), makeImage({ layers, comment: "2" })];
    served.add(one, "1");
    served.add(two, "2");
    for (let round = 0; round < 10; round++) {
      await it().store.pull(`${served.address}/race:1`, undefined, never);
      const [pulled] = await Promise.all([
        it().store.pull(`${served.address}/race:2`, undefined, never),
        it().store.remove(one.id),
      ]);
      for (const directory of pulled.layers) await access(path.join(directory, "bulk"));
      await it().store.remove(two.id);
    }
  });

  test("a pull from a registry that never finishes does not block others, whatever its layers", async () => {
    const many = makeImage({ layers: Array.from({ length: 8 }, (_, index) => bulkyLayer(10_000 + index)) });
    const slow = await startWrongRegistry(dribbling(many.layers));
    slow.add(many, "1");
    const served = await serve();
    const image = makeImage({ layers: [bulkyLayer(20_000), bulkyLayer(20_001)] });
    served.add(image, "1");
    const leaving = new AbortController();
    const stuck = it().store.pull(`${slow.address}/many:1`, undefined, leaving.signal);
    while (many.layers.filter(({ digest }) => slow.seen(digest).length > 0).length < 4) await sleep(5);
    expect((await it().store.pull(`${served.address}/app:1`, undefined, AbortSignal.timeout(20_000))).id).toBe(
      image.id,
    );
    leaving.abort();
    await expect(stuck).rejects.toThrow("cancelled");
    await slow.stop();
  });

  test("a layer that another registry never finishes sending is fetched from the pull's own registry", async () => {
    const slow = await startWrongRegistry(dribbling([layer]));
    const served = await serve();
    const [one, two] = [makeImage({ layers: [layer], comment: "1" }), makeImage({ layers: [layer], comment: "2" })];
    slow.add(one, "1");
    served.add(two, "1");
    const leaving = new AbortController();
    const stuck = it().store.pull(`${slow.address}/base:1`, undefined, leaving.signal);
    while (slow.seen(layer.digest).length === 0) await sleep(5);
    expect((await it().store.pull(`${served.address}/base:1`, undefined, AbortSignal.timeout(20_000))).id).toBe(two.id);
    leaving.abort();
    await expect(stuck).rejects.toThrow("cancelled");
    await slow.stop();
  });

  test("the number of layers in parallel is limited", async () => {
    let open = 0;
    let most = 0;
    const served = await serve(async (request) => {
      if (!request.url.includes("/blobs/")) return false;
      most = Math.max(most, ++open);
      await sleep(30);
      open--;
      return false;
    });
    served.add(makeImage({ layers: Array.from({ length: 8 }, (_, index) => bulkyLayer(10_000 + index)) }), "1");
    const narrow = await openTestStore({ parallelLayers: 2 });
    await narrow.store.pull(`${served.address}/many:1`, undefined, never);
    expect(most).toBe(2);
    await narrow.dispose();
  });
});
