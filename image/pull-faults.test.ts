// Pulls from registries that fail, lie and stall: the errors, and that nothing is left behind.

import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { access, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import {
  type BuiltImage,
  type BuiltLayer,
  bulkyLayer,
  makeImage,
  makeLayer,
  makeTar,
  sha256,
} from "./testing/build-image.ts";
import { usePulls } from "./testing/pulls.ts";
import { freePort } from "./testing/registry.ts";
import { expectCleanFailure, listStore, openTestStore } from "./testing/store.ts";
import type { Interception } from "./testing/wrong-registry.ts";

const never = new AbortController().signal;
const run = promisify(execFile);
const { it, serve } = usePulls();

function imageOf(...layers: BuiltLayer[]): BuiltImage {
  return makeImage({ layers });
}

describe("a connection that breaks", () => {
  const layer = bulkyLayer(3_000_000);
  const image = imageOf(layer);

  const breakOnce = (): Interception => {
    let breaks = 0;
    return (request, response) => {
      if (!request.url.includes(layer.digest) || breaks++ > 0) return false;
      response.writeHead(200, { "content-length": layer.blob.length });
      // With a FIN: a reset would also discard data that the client has not read yet.
      response.write(layer.blob.subarray(0, 1_000_000), () => response.socket?.end());
      return true;
    };
  };

  test("is resumed where it broke", async () => {
    const served = await serve(breakOnce());
    served.add(image, "1");
    await it().store.pull(`${served.address}/broken:1`, undefined, never);
    const [first, second, ...more] = served.seen(layer.digest);
    expect(first?.headers.range).toBeUndefined();
    expect(second?.headers.range).toMatch(/^bytes=[1-9]\d+-[1-9]\d+$/);
    expect(more).toEqual([]);
  });

  test("is resumed with a registry that does not support ranges", async () => {
    const breaking = breakOnce();
    const served = await serve((request, response) => {
      delete request.headers.range;
      return breaking(request, response);
    });
    served.add(image, "1");
    expect((await it().store.pull(`${served.address}/broken:1`, undefined, never)).id).toBe(image.id);
  });

  test.each([416, 400])("is resumed at a registry that answers ranges with status %i", async (status) => {
    const breaking = breakOnce();
    const served = await serve((request, response) => {
      if (request.headers.range === undefined) return breaking(request, response);
      response.writeHead(status).end();
      return true;
    });
    served.add(image, "1");
    expect((await it().store.pull(`${served.address}/broken:1`, undefined, never)).id).toBe(image.id);
  });

  test.each(["bytes 0-2999999/*", undefined])(
    "is not resumed with a range that starts elsewhere (%s)",
    async (range) => {
      const breaking = breakOnce();
      const served = await serve((request, response) => {
        if (request.headers.range === undefined) return breaking(request, response);
        response.writeHead(206, range === undefined ? {} : { "content-range": range }).end(layer.blob);
        return true;
      });
      served.add(image, "1");
      await expectCleanFailure(it(), `${served.address}/broken:1`, {
        name: "registryRefused",
        message: expect.stringContaining("a range that does not start at 1000000"),
      });
    },
  );

  test("after the last byte is no failure, and nothing more is requested", async () => {
    const { promise: arrived, resolve: hasArrived } = Promise.withResolvers<void>();
    const served = await serve((request, response) => {
      if (!request.url.includes(layer.digest) || request.headers.range !== undefined) return false;
      // Chunked, without the terminating chunk. Bytes that are not read by then would be lost with the connection.
      response.write(layer.blob);
      arrived.then(() => response.socket?.end());
      return true;
    });
    served.add(image, "1");
    const reference = `${served.address}/broken:1`;
    const pulling = it().store.pull(reference, undefined, never);
    while (((await it().store.transfer(reference))?.done ?? 0) < layer.blob.length) await sleep(5);
    hasArrived();
    expect((await pulling).id).toBe(image.id);
    expect(served.seen(layer.digest)).toHaveLength(1);
  });

  test("repeatedly fails with RegistryUnavailable", async () => {
    const served = await serve((request, response) => {
      if (!request.url.includes(layer.digest)) return false;
      response.writeHead(200, { "content-length": layer.blob.length });
      response.write("x", () => response.destroy());
      return true;
    });
    served.add(image, "1");
    await expectCleanFailure(it(), `${served.address}/broken:1`, {
      code: "Unknown",
      message: expect.stringMatching(/^RegistryUnavailable: Layer sha256:/),
    });
    expect(served.seen(layer.digest)).toHaveLength(3);
  });

  test("that stalls is abandoned after the stall timeout, and resumed", async () => {
    let stalls = 0;
    const served = await serve((request, response) => {
      if (!request.url.includes(layer.digest) || stalls++ > 0) return false;
      response.writeHead(200, { "content-length": layer.blob.length });
      response.write(layer.blob.subarray(0, 1000));
      return true;
    });
    served.add(image, "1");
    await it().store.pull(`${served.address}/stalled:1`, undefined, never);
    expect(served.seen(layer.digest)[1]?.headers.range).toBe(`bytes=1000-${layer.blob.length - 1}`);
  });

  test("that never answers fails with RegistryUnavailable within the deadlines", async () => {
    const served = await serve(() => true);
    const other = await openTestStore({
      timeouts: { connectMs: 100, responseMs: 100, stallMs: 100, documentMs: 1000 },
    });
    await expect(other.store.pull(`${served.address}/mute:1`, undefined, never)).rejects.toMatchObject({
      message: expect.stringMatching(/^RegistryUnavailable: .*did not answer within 100 ms/),
    });
    await other.dispose();
  });

  test("to a host that is silent until it has the complete layer gets a longer timeout with each try", async () => {
    const served = await serve(async ({ url }) => {
      if (url.includes(layer.digest)) await sleep(3_000);
      return false;
    });
    served.add(image, "1");
    const timeouts = { connectMs: 2_000, responseMs: 1_000, stallMs: 2_000, documentMs: 2_000 };
    const other = await openTestStore({ timeouts });
    expect((await other.store.pull(`${served.address}/cache:1`, undefined, never)).id).toBe(image.id);
    await other.dispose();
  });

  test("that is refused fails with RegistryUnavailable at once", async () => {
    await expectCleanFailure(it(), `127.0.0.1:${await freePort()}/nobody:1`, {
      code: "Unknown",
      message: expect.stringMatching(/^RegistryUnavailable: .*ECONNREFUSED/),
    });
  });
});

describe("wrong content", () => {
  const layer = makeLayer(makeTar([{ name: "good", content: "good" }]));
  const image = imageOf(layer);

  async function expectRefused(blob: Buffer, error: object): Promise<void> {
    const served = await serve();
    served.add(image, "1");
    served.setBlob(layer.digest, blob);
    await expectCleanFailure(it(), `${served.address}/wrong:1`, error);
  }

  test("a layer of the right size with a wrong digest", async () => {
    const plain = makeLayer(makeTar([{ name: "good", content: "good" }]), "none");
    const served = await serve();
    served.add(imageOf(plain), "1");
    served.setBlob(plain.digest, makeTar([{ name: "evil", content: "evil" }]));
    await expectCleanFailure(it(), `${served.address}/wrong:1`, {
      name: "digestMismatch",
      message: expect.stringContaining(plain.digest),
    });
  });

  test("a layer with other bytes that inflate to the same", () => {
    const blob = Buffer.from(layer.blob);
    // The timestamp in the gzip header (RFC 1952 section 2.3).
    blob[4] = 1;
    return expectRefused(blob, { name: "digestMismatch", message: expect.not.stringContaining("inflated") });
  });

  test("a layer that never ends is aborted", async () => {
    const plain = makeLayer(makeTar([{ name: "good", content: "good" }]), "none");
    const served = await serve((request, response) => {
      if (!request.url.includes(plain.digest)) return false;
      response.writeHead(200);
      response.write(plain.blob);
      // For an unpacker, a tar with zeros after its end is still valid.
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65536)));
      };
      response.on("drain", more);
      more();
      return true;
    });
    served.add(imageOf(plain), "1");
    await expectCleanFailure(it(), `${served.address}/endless:1`, { name: "sizeMismatch" });
  });

  test("a truncated layer", () =>
    expectRefused(layer.blob.subarray(0, -10), {
      name: "sizeMismatch",
      message: expect.stringContaining("discarded"),
    }));

  test("a layer with trailing data", () =>
    expectRefused(Buffer.concat([layer.blob, Buffer.from("more")]), { name: "sizeMismatch" }));

  test("a layer of garbage", () =>
    expectRefused(randomBytes(layer.blob.length), {
      code: "InvalidArgument",
      message: expect.stringContaining(layer.digest),
    }));

  test("a layer whose content does not match the config's diff id", async () => {
    const served = await serve();
    served.add(imageOf({ ...layer, diffId: sha256("something else") }), "1");
    await expectCleanFailure(it(), `${served.address}/wrong:1`, {
      name: "digestMismatch",
      message: expect.stringContaining("inflated"),
    });
  });

  test("a config with a wrong digest", async () => {
    const served = await serve();
    served.add(image, "1");
    served.setBlob(image.id, Buffer.from("{}"));
    await expectCleanFailure(it(), `${served.address}/wrong:1`, { name: "digestMismatch" });
  });

  test("a manifest that does not match the requested digest", async () => {
    const served = await serve();
    served.addManifest(sha256("other"), image.manifest, image.manifestType);
    await expectCleanFailure(it(), `${served.address}/wrong@${sha256("other")}`, { name: "digestMismatch" });
  });

  test("one bad layer removes the good ones too", async () => {
    const good = bulkyLayer(500_000);
    const served = await serve();
    served.add(imageOf(good, layer), "1");
    served.setBlob(layer.digest, randomBytes(layer.blob.length));
    await expectCleanFailure(it(), `${served.address}/mixed:1`, { code: "InvalidArgument" });
    // One after the other: the good layer is already in place when the bad one fails.
    const single = await openTestStore({ parallelLayers: 1 });
    const before = await listStore(single.root);
    await expect(single.store.pull(`${served.address}/mixed:1`, undefined, never)).rejects.toThrow(layer.digest);
    expect(await listStore(single.root)).toEqual(before);
    await single.dispose();
  });

  test("a layer with paths outside itself does not touch the host", async () => {
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
    await it()
      .store.pull(`${served.address}/evil:1`, undefined, never)
      .catch(() => undefined);
    for (const name of ["through-link", "dots", "absolute"]) {
      await expect(access(path.join(victim, name)), name).rejects.toThrow("ENOENT");
    }
    await rm(victim, { recursive: true });
  });
});

describe("a registry with errors", () => {
  const image = imageOf(makeLayer(makeTar([{ name: "x", content: "x" }])));

  test.each([408, 429, 500, 502, 503, 504, 520, 522, 524])("a transient status %i is retried", async (status) => {
    let troubles = 0;
    const served = await serve((_request, response) => {
      if (troubles++ > 1) return false;
      response.writeHead(status, { "retry-after": "0" }).end();
      return true;
    });
    served.add(image, "1");
    expect((await it().store.pull(`${served.address}/busy:1`, undefined, never)).id).toBe(image.id);
  });

  test.each([
    [503, "Unknown", /^RegistryUnavailable: .*status 503/, 3],
    [401, "Unauthenticated", /credentials/, 1],
    [403, "PermissionDenied", /pull access/, 1],
    [404, "NotFound", /does not exist/, 1],
    [400, "FailedPrecondition", /status 400/, 1],
  ])("a persistent status %i fails with %s", async (status, code, message, tries) => {
    const served = await serve((_request, response) => {
      response.writeHead(status).end();
      return true;
    });
    await expectCleanFailure(it(), `${served.address}/busy:1`, { code, message: expect.stringMatching(message) });
    expect(served.requests).toHaveLength(tries);
  });

  test("a Retry-After is respected", async () => {
    const times: number[] = [];
    const served = await serve((_request, response) => {
      times.push(performance.now());
      if (times.length > 1) return false;
      response.writeHead(429, { "retry-after": "1" }).end();
      return true;
    });
    served.add(image, "1");
    expect((await it().store.pull(`${served.address}/busy:1`, undefined, never)).id).toBe(image.id);
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(999);
  });

  test("a Retry-After above the limit is not waited for, and is reported", async () => {
    const served = await serve((_request, response) => {
      response.writeHead(429, { "retry-after": "3600" }).end();
      return true;
    });
    await expectCleanFailure(it(), `${served.address}/busy:1`, {
      code: "Unknown",
      message: expect.stringContaining("status 429, retry after 3600 s"),
    });
    expect(served.requests).toHaveLength(1);
  });

  test("a caller's deadline ends the wait for a Retry-After", async () => {
    const served = await serve((_request, response) => {
      response.writeHead(503, { "retry-after": "2" }).end();
      return true;
    });
    const begin = performance.now();
    await expect(it().store.pull(`${served.address}/busy:1`, undefined, AbortSignal.timeout(100))).rejects.toThrow();
    expect(performance.now() - begin).toBeLessThan(1_500);
  });

  test("the registry's error message is included", async () => {
    const served = await serve();
    await expectCleanFailure(it(), `${served.address}/empty:1`, {
      message: expect.stringContaining("MANIFEST_UNKNOWN: no such thing"),
    });
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

  test("a full disk fails the pull without leftovers, and the next pull works once there is room", async () => {
    const mountpoint = await mkdtemp(path.join(tmpdir(), "keelson-full-"));
    await run("mount", ["-t", "tmpfs", "-o", "size=2m", "keelson-test", mountpoint]);
    try {
      const full = await openTestStore({ root: path.join(mountpoint, "image") });
      const served = await serve();
      served.add(imageOf(bulkyLayer(3_000_000)), "big");
      served.add(imageOf(bulkyLayer(100_000)), "small");
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
