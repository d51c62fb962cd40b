// Images from a real registry into a real store, and their removal.

import { readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  busyboxLayer,
  hostArchitecture,
  makeImage,
  makeIndex,
  makeLayer,
  makeTar,
  pushImage,
  pushManifest,
  sha256,
  tinyImage,
} from "./testing/build-image.ts";
import { startRegistry, type TestRegistry } from "./testing/registry.ts";
import { useRegistryStore } from "./testing/registry-store.ts";
import { listStore, openTestStore, type TestStore } from "./testing/store.ts";

const never = new AbortController().signal;

describe("with a registry", () => {
  const { it, registry } = useRegistryStore();

  test("pulls by tag: id, names, size, config, layers", async () => {
    const base = await busyboxLayer();
    const top = makeLayer(makeTar([{ name: "hello", content: "world" }]), "zstd");
    const image = makeImage({
      layers: [base, top],
      defaults: { User: "1003:1004", Env: ["A=b"], Cmd: ["sh"], StopSignal: "SIGINT", Volumes: { "/data": {} } },
    });
    await pushImage(registry(), "library/pulled", image, "v1");

    const pulled = await it().store.pull(`${registry().address}/library/pulled:v1`, undefined, never);

    expect(pulled).toMatchObject({
      id: image.id,
      tags: [`${registry().address}/library/pulled:v1`],
      repoDigests: [`${registry().address}/library/pulled@${image.digest}`],
      size: BigInt(image.manifest.length + image.config.length + base.blob.length + top.blob.length),
      config: { user: "1003:1004", env: ["A=b"], cmd: ["sh"], stopSignal: "SIGINT", volumes: ["/data"] },
    });
    const [first = "", second = ""] = pulled.layers;
    expect(await readFile(path.join(first, "hello"), "utf8")).toBe("world");
    expect((await stat(path.join(second, "bin/busybox"))).mode & 0o777).toBe(0o755);
    expect(it().store.list()).toEqual([pulled]);
  });

  test.each(["none", "gzip", "zstd"] as const)("accepts layers with %s compression", async (compression) => {
    await pushImage(registry(), `forms/${compression}`, tinyImage(compression, compression), "latest");
    const pulled = await it().store.pull(`${registry().address}/forms/${compression}`, undefined, never);
    expect(await readFile(path.join(pulled.layers[0] ?? "", "etc", compression), "utf8")).toBe(compression);
  });

  test("accepts empty layers", async () => {
    const layers = (["none", "gzip"] as const).map((compression) => makeLayer(Buffer.alloc(0), compression));
    await pushImage(registry(), "nothing", makeImage({ layers }), "latest");
    const pulled = await it().store.pull(`${registry().address}/nothing`, undefined, never);
    expect(await readdir(pulled.layers[0] ?? "")).toEqual([]);
  });

  test("accepts Docker's schema 2", async () => {
    const layer = makeLayer(makeTar([{ name: "file", content: "x" }]), "gzip", "docker");
    const image = makeImage({ layers: [layer], form: "docker" });
    await pushImage(registry(), "docker", image, "latest");
    expect((await it().store.pull(`${registry().address}/docker`, undefined, never)).id).toBe(image.id);
  });

  test("chooses this platform from an index, and keeps the index's digest as the repository digest", async () => {
    const ours = tinyImage("ours");
    const other = makeImage({ layers: ours.layers, architecture: "s390x" });
    const index = makeIndex([
      { image: other, architecture: "s390x" },
      { image: ours, architecture: hostArchitecture },
    ]);
    await pushImage(registry(), "multi", other);
    await pushImage(registry(), "multi", ours);
    await pushManifest(registry(), "multi", "latest", index, "application/vnd.oci.image.index.v1+json");

    const pulled = await it().store.pull(`${registry().address}/multi`, undefined, never);

    expect(pulled.id).toBe(ours.id);
    const [byDigest = ""] = pulled.repoDigests;
    expect(byDigest).not.toContain(ours.digest);
    expect((await it().store.pull(byDigest, undefined, never)).id).toBe(ours.id);
  });

  test("finds this platform in nested indexes, skipping one without an image for it", async () => {
    const type = "application/vnd.oci.image.index.v1+json";
    const ours = tinyImage("inside");
    const other = makeImage({ layers: ours.layers, architecture: "s390x" });
    await pushImage(registry(), "inside", other);
    await pushImage(registry(), "inside", ours);
    const push = async (tag: string | undefined, bytes: Buffer) => {
      await pushManifest(registry(), "inside", tag ?? sha256(bytes), bytes, type);
      return { mediaType: type, digest: sha256(bytes), size: bytes.length };
    };
    const over = (...manifests: object[]) =>
      Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, manifests }));
    const foreign = await push(undefined, makeIndex([{ image: other, architecture: "s390x" }]));
    const own = await push(undefined, makeIndex([{ image: ours, architecture: hostArchitecture }]));
    const middle = await push(undefined, over(foreign, own));
    await push("nested", over(foreign, middle));
    expect((await it().store.pull(`${registry().address}/inside:nested`, undefined, never)).id).toBe(ours.id);
    await push("foreign", over(foreign, foreign));
    await expect(it().store.pull(`${registry().address}/inside:foreign`, undefined, never)).rejects.toMatchObject({
      name: "noPlatform",
      message: expect.stringContaining("only for linux/s390x"),
    });
    let tower = own;
    for (let level = 0; level < 20; level++) tower = await push(undefined, over(tower));
    await expect(
      it().store.pull(`${registry().address}/inside@${tower.digest}`, undefined, never),
    ).rejects.toMatchObject({
      name: "unsupported",
    });
  });

  test("the platform in a config counts only when no index names one", async () => {
    const mislabelled = makeImage({ layers: tinyImage("mislabelled").layers, architecture: "s390x" });
    await pushImage(registry(), "word", mislabelled, "itself");
    const told = JSON.parse(makeIndex([{ image: mislabelled, architecture: hostArchitecture }]).toString());
    const untold = { ...told, manifests: [{ ...told.manifests[0], platform: undefined }] };
    for (const [tag, index] of Object.entries({ told, untold })) {
      await pushManifest(registry(), "word", tag, Buffer.from(JSON.stringify(index)), told.mediaType);
    }
    const pull = (name: string) => it().store.pull(`${registry().address}/word${name}`, undefined, never);
    await expect(pull(":untold")).rejects.toMatchObject({
      code: "NotFound",
      message: expect.stringContaining("only for linux/s390x"),
    });
    for (const name of [":told", ":itself", `@${mislabelled.digest}`]) {
      expect((await pull(name)).id).toBe(mislabelled.id);
      await it().store.remove(mislabelled.id);
    }
  });

  test("a pull by digest has a repository digest and no tag", async () => {
    const image = tinyImage("digest");
    await pushImage(registry(), "digest", image);
    const name = `${registry().address}/digest@${image.digest}`;
    expect(await it().store.pull(name, undefined, never)).toMatchObject({ tags: [], repoDigests: [name] });
  });

  test("finds an image by every kind of reference", async () => {
    const image = tinyImage("find");
    await pushImage(registry(), "find", image, "latest");
    const name = `${registry().address}/find`;
    await it().store.pull(name, undefined, never);
    const hex = image.id.slice("sha256:".length);
    for (const reference of [image.id, hex, hex.slice(0, 3), `sha256:${hex.slice(0, 12)}`, name, `${name}:latest`]) {
      expect(it().store.find(reference)?.id, reference).toBe(image.id);
    }
    expect(it().store.find(`${name}@${image.digest}`)?.id).toBe(image.id);
    expect(it().store.find(`${name}:latest@${image.digest}`)?.id).toBe(image.id);
    for (const reference of ["", hex.slice(0, 2), `${name}:other`, "find", "busybox", "%%%", "sha256:"]) {
      expect(it().store.find(reference), reference).toBeUndefined();
    }
  });

  test("removing one of an image's names removes all of them, and everything on disk", async () => {
    const before = await listStore(it().root);
    const image = tinyImage("names");
    for (const tag of ["1", "2", "3"]) await pushImage(registry(), "names", image, tag);
    await pushImage(registry(), "elsewhere", image, "1");
    for (const tag of ["1", "2", "3"]) await it().store.pull(`${registry().address}/names:${tag}`, undefined, never);
    await it().store.pull(`${registry().address}/elsewhere:1`, undefined, never);
    expect(it().store.list()).toHaveLength(1);
    expect(it().store.list()[0]?.tags).toEqual(
      ["elsewhere:1", "names:1", "names:2", "names:3"].map((name) => `${registry().address}/${name}`),
    );

    await Promise.all(["names:1", "names:2", "names:3"].map((n) => it().store.remove(`${registry().address}/${n}`)));

    expect(it().store.list()).toEqual([]);
    await it().store.remove(image.id);
    expect((await listStore(it().root)).filter((name) => name !== "index.json")).toEqual(before);
  });

  test("a tag that moves leaves the old image with its digest", async () => {
    const [old, fresh] = [tinyImage("old"), tinyImage("fresh")];
    const name = `${registry().address}/moving:latest`;
    await pushImage(registry(), "moving", old, "latest");
    await it().store.pull(name, undefined, never);
    await pushImage(registry(), "moving", fresh, "latest");
    await it().store.pull(name, undefined, never);
    expect(it().store.find(name)?.id).toBe(fresh.id);
    expect(it().store.find(old.id)).toMatchObject({ tags: [], repoDigests: [expect.stringContaining(old.digest)] });
  });

  test("layers that images share stay until the last image is removed", async () => {
    const shared = makeLayer(makeTar([{ name: "shared", content: "1" }]));
    const one = makeImage({ layers: [shared], comment: "one" });
    const own = makeLayer(makeTar([{ name: "two", content: "2" }]));
    // The shared layer occurs twice, as empty layers do in real images.
    const two = makeImage({ layers: [shared, own, shared], comment: "two" });
    await pushImage(registry(), "one", one, "latest");
    await pushImage(registry(), "two", two, "latest");
    await it().store.pull(`${registry().address}/one`, undefined, never);
    const second = await it().store.pull(`${registry().address}/two`, undefined, never);
    expect(second.layers).toHaveLength(2);
    expect(second.layers[0]).toContain(shared.diffId.slice(7));
    expect(second.chainIds).toHaveLength(3);
    expect(second.chainIds[0]).toBe(shared.diffId);

    await it().store.remove(one.id);
    expect(await readFile(path.join(second.layers[0] ?? "", "shared"), "utf8")).toBe("1");
    await it().store.remove(two.id);
    await expect(stat(second.layers[0] ?? "")).rejects.toThrow("ENOENT");
  });

  test("only one process opens a store", async () => {
    await expect(it().reopen()).rejects.toMatchObject({ code: "FailedPrecondition" });
  });

  test("directories with private content are accessible to root only", async () => {
    for (const name of ["blobs/sha256", "layers", "containers", "staging"]) {
      expect((await stat(path.join(it().root, name))).mode & 0o777, name).toBe(0o700);
    }
  });

  test("use of images grows with a pull and shrinks with a removal", async () => {
    const image = tinyImage("use");
    await pushImage(registry(), "use", image, "latest");
    const before = (await it().store.fileSystemUse()).images;
    await it().store.pull(`${registry().address}/use`, undefined, never);
    const after = (await it().store.fileSystemUse()).images;
    expect(after.usedBytes).toBeGreaterThan(before.usedBytes);
    expect(after.inodesUsed).toBeGreaterThan(before.inodesUsed);
    expect(after.timestamp).toBeGreaterThan(0n);
    await it().store.remove(image.id);
    expect((await it().store.fileSystemUse()).images.usedBytes).toBe(before.usedBytes);
  });

  test("OCI tools can read the layout on disk", async () => {
    const image = tinyImage("layout");
    await pushImage(registry(), "layout", image, "v2");
    await it().store.pull(`${registry().address}/layout:v2`, undefined, never);
    expect(JSON.parse(await readFile(path.join(it().root, "oci-layout"), "utf8"))).toEqual({
      imageLayoutVersion: "1.0.0",
    });
    const index = JSON.parse(await readFile(path.join(it().root, "index.json"), "utf8"));
    expect(index.manifests).toContainEqual({
      mediaType: image.manifestType,
      digest: image.digest,
      size: image.manifest.length,
      annotations: { "org.opencontainers.image.ref.name": `${registry().address}/layout:v2` },
    });
    expect(await readFile(path.join(it().root, "blobs/sha256", image.digest.slice(7)))).toEqual(image.manifest);
  });

  test("an image that is not in the registry fails with NotFound", async () => {
    await expect(it().store.pull(`${registry().address}/nowhere:1`, undefined, never)).rejects.toMatchObject({
      code: "NotFound",
      message: expect.stringContaining(registry().address),
    });
  });
});

describe("with a registry that requires a password", () => {
  const login = { username: "ann", password: "s3cret" };
  const image = tinyImage("private");
  const empty = { username: "", password: "", auth: "", identityToken: "", registryToken: "", serverAddress: "" };
  let registry: TestRegistry;
  let it: TestStore;

  beforeAll(async () => {
    registry = await startRegistry({ login });
    await pushImage(registry, "private", image, "latest");
  });
  afterAll(() => registry.stop());
  beforeEach(async () => {
    it = await openTestStore();
  });
  afterEach(() => it.dispose());

  test("accepts user and password, or both in base64, only for the right server", async () => {
    const name = `${registry.address}/private`;
    const base64 = Buffer.from("ann:s3cret").toString("base64");
    for (const auth of [
      { ...empty, ...login },
      { ...empty, auth: base64 },
      { ...empty, ...login, serverAddress: `http://${registry.address}` },
    ]) {
      expect((await it.store.pull(name, auth, never)).id).toBe(image.id);
      await it.store.remove(name);
    }
    for (const auth of [
      undefined,
      empty,
      { ...empty, ...login, password: "wrong" },
      { ...empty, ...login, serverAddress: "registry.example" },
    ]) {
      await expect(it.store.pull(name, auth, never)).rejects.toMatchObject({
        code: "Unauthenticated",
        message: expect.stringContaining(registry.address),
      });
    }
  });
});
