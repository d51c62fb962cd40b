// Pulls from registries that fail, lie and stall: what comes of it, and that nothing is left behind.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { access, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type BuiltImage, type BuiltLayer, makeImage, makeLayer, makeTar, sha256 } from "./testing/build-image.ts";
import { freePort } from "./testing/registry.ts";
import { listStore, openTestStore, type TestStore } from "./testing/store.ts";
import { type Interception, startWrongRegistry, type WrongRegistry } from "./testing/wrong-registry.ts";

const never = new AbortController().signal;
const run = promisify(execFile);
let it: TestStore;
let registry: WrongRegistry | undefined;

beforeEach(async () => {
  it = await openTestStore();
});
afterEach(async () => {
  await it.dispose();
  await registry?.stop();
  registry = undefined;
});

async function serve(intercept?: Interception): Promise<WrongRegistry> {
  registry = await startWrongRegistry(intercept);
  return registry;
}

/** A layer of bytes that do not compress. */
function bulky(size: number): BuiltLayer {
  return makeLayer(makeTar([{ name: "bulk", content: randomBytes(size) }]));
}

function imageOf(...layers: BuiltLayer[]): BuiltImage {
  return makeImage({ layers });
}

/** Pulls, expects the failure, and expects the store to be as it was before. */
async function expectCleanFailure(reference: string, error: object): Promise<void> {
  const before = await listStore(it.root);
  await expect(it.store.pull(reference, undefined, never)).rejects.toMatchObject(error);
  expect(await listStore(it.root)).toEqual(before);
  expect(it.store.list()).toEqual([]);
}

describe("a connection that breaks", () => {
  const layer = bulky(3_000_000);
  const image = imageOf(layer);

  const breakOnce = (): Interception => {
    let breaks = 0;
    return (request, response) => {
      if (!request.url.includes(layer.digest) || breaks++ > 0) return false;
      response.writeHead(200, { "content-length": layer.blob.length });
      response.write(layer.blob.subarray(0, 1_000_000), () => response.destroy());
      return true;
    };
  };

  test("is resumed where it broke", async () => {
    const served = await serve(breakOnce());
    served.add(image, "1");
    await it.store.pull(`${served.address}/broken:1`, undefined, never);
    const [first, second, ...more] = served.seen(layer.digest);
    expect(first?.headers.range).toBeUndefined();
    expect(second?.headers.range).toMatch(/^bytes=[1-9]\d+-$/);
    expect(more).toEqual([]);
  });

  test("is resumed at a registry that knows no ranges", async () => {
    const breaking = breakOnce();
    const served = await serve((request, response) => {
      delete request.headers.range;
      return breaking(request, response);
    });
    served.add(image, "1");
    expect((await it.store.pull(`${served.address}/broken:1`, undefined, never)).id).toBe(image.id);
  });

  test("again and again is RegistryUnavailable", async () => {
    const served = await serve((request, response) => {
      if (!request.url.includes(layer.digest)) return false;
      response.writeHead(200, { "content-length": layer.blob.length });
      response.write("x", () => response.destroy());
      return true;
    });
    served.add(image, "1");
    await expectCleanFailure(`${served.address}/broken:1`, {
      code: "Unavailable",
      message: expect.stringMatching(/^RegistryUnavailable: Layer sha256:/),
    });
    expect(served.seen(layer.digest)).toHaveLength(3);
  });

  test("that falls silent is given up after the stall time, and resumed", async () => {
    let stalls = 0;
    const served = await serve((request, response) => {
      if (!request.url.includes(layer.digest) || stalls++ > 0) return false;
      response.writeHead(200, { "content-length": layer.blob.length });
      response.write(layer.blob.subarray(0, 1000));
      return true;
    });
    served.add(image, "1");
    await it.store.pull(`${served.address}/stalled:1`, undefined, never);
    expect(served.seen(layer.digest)[1]?.headers.range).toBe("bytes=1000-");
  });

  test("that never answers ends in RegistryUnavailable within the deadlines", async () => {
    const served = await serve(() => true);
    const other = await openTestStore({
      timeouts: { connectMs: 100, responseMs: 100, stallMs: 100, documentMs: 1000 },
    });
    await expect(other.store.pull(`${served.address}/mute:1`, undefined, never)).rejects.toMatchObject({
      message: expect.stringMatching(/^RegistryUnavailable: .*did not answer within 100 ms/),
    });
    await other.dispose();
  });

  test("refused is RegistryUnavailable at once", async () => {
    await expectCleanFailure(`127.0.0.1:${await freePort()}/nobody:1`, {
      code: "Unavailable",
      message: expect.stringMatching(/^RegistryUnavailable: .*ECONNREFUSED/),
    });
  });
});

describe("content that is not what it should be", () => {
  const layer = makeLayer(makeTar([{ name: "good", content: "good" }]));
  const image = imageOf(layer);

  async function expectRefused(blob: Buffer, error: object): Promise<void> {
    const served = await serve();
    served.add(image, "1");
    served.setBlob(layer.digest, blob);
    await expectCleanFailure(`${served.address}/wrong:1`, error);
  }

  test("a layer of the right size with a wrong digest", async () => {
    const plain = makeLayer(makeTar([{ name: "good", content: "good" }]), "none");
    const served = await serve();
    served.add(imageOf(plain), "1");
    served.setBlob(plain.digest, makeTar([{ name: "evil", content: "evil" }]));
    await expectCleanFailure(`${served.address}/wrong:1`, {
      name: "digestMismatch",
      message: expect.stringContaining(plain.digest),
    });
  });

  test("a layer with other bytes that inflate to the same", () => {
    const blob = Buffer.from(layer.blob);
    // The time stamp in the gzip header (RFC 1952 section 2.3).
    blob[4] = 1;
    return expectRefused(blob, { name: "digestMismatch", message: expect.not.stringContaining("inflated") });
  });

  test("a layer that never ends is cut off", async () => {
    const plain = makeLayer(makeTar([{ name: "good", content: "good" }]), "none");
    const served = await serve((request, response) => {
      if (!request.url.includes(plain.digest)) return false;
      response.writeHead(200);
      response.write(plain.blob);
      // Zeros after the end are still a good tar to an unpacker.
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65536)));
      };
      response.on("drain", more);
      more();
      return true;
    });
    served.add(imageOf(plain), "1");
    await expectCleanFailure(`${served.address}/endless:1`, { name: "sizeMismatch" });
  });

  test("a truncated layer", () =>
    expectRefused(layer.blob.subarray(0, -10), {
      name: "sizeMismatch",
      message: expect.stringContaining("thrown away"),
    }));

  test("a layer with something after it", () =>
    expectRefused(Buffer.concat([layer.blob, Buffer.from("more")]), { name: "sizeMismatch" }));

  test("a layer of garbage", () =>
    expectRefused(randomBytes(layer.blob.length), {
      code: "InvalidArgument",
      message: expect.stringContaining(layer.digest),
    }));

  test("a layer whose content is not the config's diff id", async () => {
    const served = await serve();
    served.add(imageOf({ ...layer, diffId: sha256("something else") }), "1");
    await expectCleanFailure(`${served.address}/wrong:1`, {
      name: "digestMismatch",
      message: expect.stringContaining("inflated"),
    });
  });

  test("a config with a wrong digest", async () => {
    const served = await serve();
    served.add(image, "1");
    served.setBlob(image.id, Buffer.from("{}"));
    await expectCleanFailure(`${served.address}/wrong:1`, { name: "digestMismatch" });
  });

  test("a manifest that is not what the digest asked for", async () => {
    const served = await serve();
    served.addManifest(sha256("other"), image.manifest, image.manifestType);
    await expectCleanFailure(`${served.address}/wrong@${sha256("other")}`, { name: "digestMismatch" });
  });

  test("one bad layer among good ones takes the good ones down too", async () => {
    const good = bulky(500_000);
    const served = await serve();
    served.add(imageOf(good, layer), "1");
    served.setBlob(layer.digest, randomBytes(layer.blob.length));
    await expectCleanFailure(`${served.address}/mixed:1`, { code: "InvalidArgument" });
    // One after the other: the good one has its place already when the bad one fails.
    const single = await openTestStore({ parallelLayers: 1 });
    const before = await listStore(single.root);
    await expect(single.store.pull(`${served.address}/mixed:1`, undefined, never)).rejects.toThrow(layer.digest);
    expect(await listStore(single.root)).toEqual(before);
    await single.dispose();
  });

  test("a layer that reaches outside itself touches nothing of the host", async () => {
    const victim = await mkdtemp(path.join(tmpdir(), "keelson-victim-"));
    const up = "../".repeat(20);
    const evil = makeLayer(
      makeTar([
        { name: "way", link: victim },
        { name: "way/through-link", content: "x" },
        { name: `${up}${victim.slice(1)}/dots`, content: "x" },
        { name: `${victim}/absolute`, content: "x" },
      ]),
    );
    const served = await serve();
    served.add(imageOf(evil), "1");
    await it.store.pull(`${served.address}/evil:1`, undefined, never).catch(() => undefined);
    for (const name of ["through-link", "dots", "absolute"]) {
      await expect(access(path.join(victim, name)), name).rejects.toThrow("ENOENT");
    }
    await rm(victim, { recursive: true });
  });
});

describe("documents that are not what they should be", () => {
  const image = imageOf(makeLayer(makeTar([{ name: "x", content: "x" }])));
  const parsed = JSON.parse(image.manifest.toString());

  const cases: readonly (readonly [string, string | object, object])[] = [
    [
      "both manifest and index",
      { ...parsed, mediaType: undefined, manifests: [] },
      { message: expect.stringContaining("both as a manifest and as an index") },
    ],
    [
      "an index that says it is a manifest",
      { schemaVersion: 2, mediaType: parsed.mediaType, manifests: [] },
      { name: "malformed" },
    ],
    ["schema 1", { schemaVersion: 1, fsLayers: [] }, { code: "Unimplemented" }],
    ["no JSON", "<html>", { name: "malformed" }],
    ["a list", [], { name: "malformed" }],
    ["nested a million deep", "[".repeat(1_000_000), { name: "malformed" }],
    [
      "a digest that is a path",
      { ...parsed, config: { ...parsed.config, digest: "sha256:../../x" } },
      { name: "malformed" },
    ],
    ["a size that is a text", { ...parsed, layers: [{ ...parsed.layers[0], size: "9" }] }, { name: "malformed" }],
    ["a negative size", { ...parsed, layers: [{ ...parsed.layers[0], size: -1 }] }, { name: "malformed" }],
    ["no layers", { ...parsed, layers: [] }, { name: "malformed" }],
    [
      "more layers than overlayfs takes",
      { ...parsed, layers: Array(501).fill(parsed.layers[0]) },
      { name: "malformed" },
    ],
    [
      "more layers than the config knows",
      { ...parsed, layers: Array(2).fill(parsed.layers[0]) },
      { name: "malformed" },
    ],
    [
      "an encrypted layer",
      { ...parsed, layers: [{ ...parsed.layers[0], mediaType: `${parsed.layers[0].mediaType}+encrypted` }] },
      { code: "Unimplemented" },
    ],
    [
      "no image at all",
      { ...parsed, config: { ...parsed.config, mediaType: "application/vnd.cncf.helm.config.v1+json" } },
      { code: "Unimplemented" },
    ],
    ["a polluted prototype", '{"__proto__": {"schemaVersion": 2}, "layers": []}', { code: "Unimplemented" }],
  ];

  test.each(cases)("%s", async (_name, document, error) => {
    const served = await serve();
    served.add(image, "good");
    const bytes = Buffer.from(typeof document === "string" ? document : JSON.stringify(document));
    served.addManifest("1", bytes, "application/json");
    await expectCleanFailure(`${served.address}/odd:1`, error);
  });

  test("a manifest that is announced as an index", async () => {
    const served = await serve();
    served.addManifest("1", image.manifest, "application/vnd.oci.image.index.v1+json");
    await expectCleanFailure(`${served.address}/odd:1`, { name: "malformed" });
  });

  test("a manifest of a gigabyte, announced or endless, is not read", async () => {
    const served = await serve((request, response) => {
      const type = { "content-type": image.manifestType };
      if (request.url.includes("announced")) response.writeHead(200, { ...type, "content-length": 1 << 30 });
      else response.writeHead(200, type);
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65536, " ")));
      };
      response.on("drain", more);
      more();
      return true;
    });
    const before = process.memoryUsage().rss;
    await expectCleanFailure(`${served.address}/huge:announced`, { code: "ResourceExhausted" });
    await expectCleanFailure(`${served.address}/huge:endless`, { code: "ResourceExhausted" });
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024);
  });

  test("a config that is announced larger than any config is not fetched", async () => {
    const served = await serve();
    const config = { ...parsed.config, size: 1 << 30 };
    served.addManifest("1", Buffer.from(JSON.stringify({ ...parsed, config })), image.manifestType);
    await expectCleanFailure(`${served.address}/huge:1`, { code: "ResourceExhausted" });
    expect(served.seen("/blobs/")).toEqual([]);
  });
});

describe("a registry in trouble", () => {
  const image = imageOf(makeLayer(makeTar([{ name: "x", content: "x" }])));

  test.each([408, 429, 500, 502, 503, 504])("status %i that passes is waited out", async (status) => {
    let troubles = 0;
    const served = await serve((_request, response) => {
      if (troubles++ > 1) return false;
      response.writeHead(status, { "retry-after": "0" }).end();
      return true;
    });
    served.add(image, "1");
    expect((await it.store.pull(`${served.address}/busy:1`, undefined, never)).id).toBe(image.id);
  });

  test.each([
    [503, "Unavailable", /^RegistryUnavailable: .*status 503/, 3],
    [401, "Unauthenticated", /credentials/, 1],
    [403, "PermissionDenied", /pull rights/, 1],
    [404, "NotFound", /does not exist/, 1],
    [400, "FailedPrecondition", /status 400/, 1],
  ])("status %i that stays is %s", async (status, code, message, tries) => {
    const served = await serve((_request, response) => {
      response.writeHead(status).end();
      return true;
    });
    await expectCleanFailure(`${served.address}/busy:1`, { code, message: expect.stringMatching(message) });
    expect(served.requests).toHaveLength(tries);
  });

  test("its own words are in the message", async () => {
    const served = await serve();
    await expectCleanFailure(`${served.address}/empty:1`, {
      message: expect.stringContaining("MANIFEST_UNKNOWN: no such thing"),
    });
  });
});

describe("pulls at the same time", () => {
  const layer = bulky(200_000);

  test("equal ones share one", async () => {
    const served = await serve();
    const image = imageOf(layer);
    served.add(image, "1");
    const name = `${served.address}/shared:1`;
    const pulled = await Promise.all(Array.from({ length: 5 }, () => it.store.pull(name, undefined, never)));
    expect(new Set(pulled.map(({ id }) => id))).toEqual(new Set([image.id]));
    expect(served.seen("/manifests/")).toHaveLength(1);
  });

  test("different images share the layer they have in common", async () => {
    const served = await serve();
    served.add(makeImage({ layers: [layer], comment: "a" }), "a");
    served.add(makeImage({ layers: [layer], comment: "b" }), "b");
    await Promise.all(["a", "b"].map((tag) => it.store.pull(`${served.address}/common:${tag}`, undefined, never)));
    expect(served.seen(layer.digest)).toHaveLength(1);
    expect(it.store.list()).toHaveLength(2);
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
    const failing = it.store.pull(`${bad.address}/common:1`, undefined, never);
    while (bad.seen(layer.digest).length === 0) await sleep(5);
    const working = it.store.pull(`${served.address}/common:1`, undefined, never);
    await expect(failing).rejects.toMatchObject({ code: "PermissionDenied" });
    expect((await working).id).toBe(second.id);
    await bad.stop();
  });

  /** Holds the layer back until told. */
  async function holding() {
    const { promise, resolve } = Promise.withResolvers<void>();
    const served = await serve(async (request) => {
      if (request.url.includes(layer.digest)) await promise;
      return false;
    });
    served.add(imageOf(layer), "1");
    return { served, name: `${served.address}/held:1`, letGo: resolve };
  }

  test("one waiter that gives up leaves the others alone", async () => {
    const { served, name, letGo } = await holding();
    const leaving = new AbortController();
    const left = it.store.pull(name, undefined, leaving.signal);
    const staying = it.store.pull(name, undefined, never);
    while (served.seen(layer.digest).length === 0) await sleep(5);
    leaving.abort();
    await expect(left).rejects.toMatchObject({ code: "Cancelled" });
    letGo();
    expect((await staying).tags).toEqual([name]);
    expect(served.seen(layer.digest)).toHaveLength(1);
  });

  test("when the last waiter gives up, the pull is undone, and a new one starts afresh", async () => {
    const before = await listStore(it.root);
    const { served, name, letGo } = await holding();
    const leaving = new AbortController();
    const left = it.store.pull(name, undefined, leaving.signal);
    while (served.seen(layer.digest).length === 0) await sleep(5);
    leaving.abort();
    await expect(left).rejects.toMatchObject({ code: "Cancelled" });
    await expect.poll(() => listStore(it.root)).toEqual(before);
    letGo();
    expect((await it.store.pull(name, undefined, never)).tags).toEqual([name]);
  });

  test("a pull under way ends with the store, without a trace", async () => {
    const before = await listStore(it.root);
    const { served, name } = await holding();
    const pulling = it.store.pull(name, undefined, never);
    pulling.catch(() => undefined);
    while (served.seen(layer.digest).length === 0) await sleep(5);
    await it.store.close();
    await expect(pulling).rejects.toMatchObject({ code: "Cancelled" });
    expect(await listStore(it.root)).toEqual(before);
  });

  test("an image removed while a pull shares its layers is no loss for the pull", async () => {
    const served = await serve();
    const layers = Array.from({ length: 6 }, (_, index) => bulky(50_000 + index));
    const [one, two] = [makeImage({ layers, comment: "1" }), makeImage({ layers, comment: "2" })];
    served.add(one, "1");
    served.add(two, "2");
    for (let round = 0; round < 10; round++) {
      await it.store.pull(`${served.address}/race:1`, undefined, never);
      const [pulled] = await Promise.all([
        it.store.pull(`${served.address}/race:2`, undefined, never),
        it.store.remove(one.id),
      ]);
      for (const directory of pulled.layers) await access(path.join(directory, "bulk"));
      await it.store.remove(two.id);
    }
  });

  test("no more layers at once than allowed", async () => {
    let open = 0;
    let most = 0;
    const served = await serve(async (request) => {
      if (!request.url.includes("/blobs/")) return false;
      most = Math.max(most, ++open);
      await sleep(30);
      open--;
      return false;
    });
    served.add(imageOf(...Array.from({ length: 8 }, (_, index) => bulky(10_000 + index))), "1");
    const narrow = await openTestStore({ parallelLayers: 2 });
    await narrow.store.pull(`${served.address}/many:1`, undefined, never);
    expect(most).toBe(2);
    await narrow.dispose();
  });
});

describe("limits", () => {
  test("a layer that inflates past the limit is stopped", async () => {
    const served = await serve();
    const tar = makeTar([{ name: "zeros", content: Buffer.alloc(20_000_000) }]);
    served.add(imageOf({ ...makeLayer(tar), blob: gzipSync(tar) }), "1");
    const small = await openTestStore({ limits: { bytes: 1_000_000n, inodes: 1000n } });
    const before = await listStore(small.root);
    await expect(small.store.pull(`${served.address}/bomb:1`, undefined, never)).rejects.toMatchObject({
      code: "ResourceExhausted",
    });
    expect(await listStore(small.root)).toEqual(before);
    await small.dispose();
  });

  test("a full disk fails the pull, leaves nothing, and the next one works once there is room", async () => {
    const mountpoint = await mkdtemp(path.join(tmpdir(), "keelson-full-"));
    await run("mount", ["-t", "tmpfs", "-o", "size=2m", "keelson-test", mountpoint]);
    try {
      const full = await openTestStore({ root: path.join(mountpoint, "image") });
      const served = await serve();
      served.add(imageOf(bulky(3_000_000)), "big");
      served.add(imageOf(bulky(100_000)), "small");
      const before = await listStore(path.join(mountpoint, "image"));
      await expect(full.store.pull(`${served.address}/disk:big`, undefined, never)).rejects.toMatchObject({
        code: "ResourceExhausted",
      });
      expect(await listStore(path.join(mountpoint, "image"))).toEqual(before);
      expect((await full.store.pull(`${served.address}/disk:small`, undefined, never)).tags).toHaveLength(1);
      await full.dispose();
    } finally {
      await run("umount", [mountpoint]);
      await rm(mountpoint, { recursive: true });
    }
  });
});
