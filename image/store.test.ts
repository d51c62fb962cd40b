// Images from a real registry into a real store and out of it again.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { access, mkdir, open, readdir, readFile, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Host, loadHost } from "../native/index.ts";
import {
  type BuiltImage,
  busyboxLayer,
  hostArchitecture,
  makeImage,
  makeIndex,
  makeLayer,
  makeTar,
  pushImage,
  pushManifest,
  sha256,
} from "./testing/build-image.ts";
import { startRegistry, type TestRegistry } from "./testing/registry.ts";
import { listStore, openTestStore, type TestStore } from "./testing/store.ts";

const never = new AbortController().signal;
const run = promisify(execFile);

function tiny(name: string, compression: "none" | "gzip" | "zstd" = "gzip"): BuiltImage {
  const layer = makeLayer(makeTar([{ name: "etc/" }, { name: `etc/${name}`, content: name }]), compression);
  return makeImage({ layers: [layer], comment: name });
}

describe("with a registry", () => {
  let registry: TestRegistry;
  let it: TestStore;

  beforeAll(async () => {
    registry = await startRegistry();
  });
  afterAll(() => registry.stop());
  beforeEach(async () => {
    it = await openTestStore();
  });
  afterEach(() => it.dispose());

  test("pulls by tag: id, names, size, config, layers", async () => {
    const base = await busyboxLayer();
    const top = makeLayer(makeTar([{ name: "hello", content: "world" }]), "zstd");
    const image = makeImage({
      layers: [base, top],
      defaults: { User: "1003:1004", Env: ["A=b"], Cmd: ["sh"], StopSignal: "SIGINT", Volumes: { "/data": {} } },
    });
    await pushImage(registry, "library/pulled", image, "v1");

    const pulled = await it.store.pull(`${registry.address}/library/pulled:v1`, undefined, never);

    expect(pulled).toMatchObject({
      id: image.id,
      tags: [`${registry.address}/library/pulled:v1`],
      repoDigests: [`${registry.address}/library/pulled@${image.digest}`],
      size: BigInt(image.manifest.length + image.config.length + base.blob.length + top.blob.length),
      config: { user: "1003:1004", env: ["A=b"], cmd: ["sh"], stopSignal: "SIGINT", volumes: ["/data"] },
    });
    const [first = "", second = ""] = pulled.layers;
    expect(await readFile(path.join(first, "hello"), "utf8")).toBe("world");
    expect((await stat(path.join(second, "bin/busybox"))).mode & 0o777).toBe(0o755);
    expect(it.store.list()).toEqual([pulled]);
  });

  test.each(["none", "gzip", "zstd"] as const)("takes layers with %s compression", async (compression) => {
    await pushImage(registry, `forms/${compression}`, tiny(compression, compression), "latest");
    const pulled = await it.store.pull(`${registry.address}/forms/${compression}`, undefined, never);
    expect(await readFile(path.join(pulled.layers[0] ?? "", "etc", compression), "utf8")).toBe(compression);
  });

  test("takes layers of no bytes", async () => {
    const layers = (["none", "gzip"] as const).map((compression) => makeLayer(Buffer.alloc(0), compression));
    await pushImage(registry, "nothing", makeImage({ layers }), "latest");
    const pulled = await it.store.pull(`${registry.address}/nothing`, undefined, never);
    expect(await readdir(pulled.layers[0] ?? "")).toEqual([]);
  });

  test("takes Docker's schema 2", async () => {
    const layer = makeLayer(makeTar([{ name: "file", content: "x" }]), "gzip", "docker");
    const image = makeImage({ layers: [layer], form: "docker" });
    await pushImage(registry, "docker", image, "latest");
    expect((await it.store.pull(`${registry.address}/docker`, undefined, never)).id).toBe(image.id);
  });

  test("chooses this platform from an index, and keeps the index's digest as the repository digest", async () => {
    const ours = tiny("ours");
    const other = makeImage({ layers: ours.layers, architecture: "s390x" });
    const index = makeIndex([
      { image: other, architecture: "s390x" },
      { image: ours, architecture: hostArchitecture },
    ]);
    await pushImage(registry, "multi", other);
    await pushImage(registry, "multi", ours);
    await pushManifest(registry, "multi", "latest", index, "application/vnd.oci.image.index.v1+json");

    const pulled = await it.store.pull(`${registry.address}/multi`, undefined, never);

    expect(pulled.id).toBe(ours.id);
    const [byDigest = ""] = pulled.repoDigests;
    expect(byDigest).not.toContain(ours.digest);
    expect((await it.store.pull(byDigest, undefined, never)).id).toBe(ours.id);
  });

  test("finds this platform in an index inside of indexes, past one that has none for it", async () => {
    const type = "application/vnd.oci.image.index.v1+json";
    const ours = tiny("inside");
    const other = makeImage({ layers: ours.layers, architecture: "s390x" });
    await pushImage(registry, "inside", other);
    await pushImage(registry, "inside", ours);
    const push = async (tag: string | undefined, bytes: Buffer) => {
      await pushManifest(registry, "inside", tag ?? sha256(bytes), bytes, type);
      return { mediaType: type, digest: sha256(bytes), size: bytes.length };
    };
    const over = (...manifests: object[]) =>
      Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, manifests }));
    const foreign = await push(undefined, makeIndex([{ image: other, architecture: "s390x" }]));
    const own = await push(undefined, makeIndex([{ image: ours, architecture: hostArchitecture }]));
    const middle = await push(undefined, over(foreign, own));
    await push("nested", over(foreign, middle));
    expect((await it.store.pull(`${registry.address}/inside:nested`, undefined, never)).id).toBe(ours.id);
    await push("foreign", over(foreign, foreign));
    await expect(it.store.pull(`${registry.address}/inside:foreign`, undefined, never)).rejects.toMatchObject({
      name: "noPlatform",
      message: expect.stringContaining("only for linux/s390x"),
    });
    let tower = own;
    for (let level = 0; level < 20; level++) tower = await push(undefined, over(tower));
    await expect(it.store.pull(`${registry.address}/inside@${tower.digest}`, undefined, never)).rejects.toMatchObject({
      name: "unsupported",
    });
  });

  test("what a config says of its platform counts only where an index has no word", async () => {
    const mislabelled = makeImage({ layers: tiny("mislabelled").layers, architecture: "s390x" });
    await pushImage(registry, "word", mislabelled, "itself");
    const told = JSON.parse(makeIndex([{ image: mislabelled, architecture: hostArchitecture }]).toString());
    const untold = { ...told, manifests: [{ ...told.manifests[0], platform: undefined }] };
    for (const [tag, index] of Object.entries({ told, untold })) {
      await pushManifest(registry, "word", tag, Buffer.from(JSON.stringify(index)), told.mediaType);
    }
    const pull = (name: string) => it.store.pull(`${registry.address}/word${name}`, undefined, never);
    await expect(pull(":untold")).rejects.toMatchObject({
      code: "NotFound",
      message: expect.stringContaining("only for linux/s390x"),
    });
    for (const name of [":told", ":itself", `@${mislabelled.digest}`]) {
      expect((await pull(name)).id).toBe(mislabelled.id);
      await it.store.remove(mislabelled.id);
    }
  });

  test("a pull by digest has a repository digest and no tag", async () => {
    const image = tiny("digest");
    await pushImage(registry, "digest", image);
    const name = `${registry.address}/digest@${image.digest}`;
    expect(await it.store.pull(name, undefined, never)).toMatchObject({ tags: [], repoDigests: [name] });
  });

  test("finds an image by every kind of reference", async () => {
    const image = tiny("find");
    await pushImage(registry, "find", image, "latest");
    const name = `${registry.address}/find`;
    await it.store.pull(name, undefined, never);
    const hex = image.id.slice("sha256:".length);
    for (const reference of [image.id, hex, hex.slice(0, 3), `sha256:${hex.slice(0, 12)}`, name, `${name}:latest`]) {
      expect(it.store.find(reference)?.id, reference).toBe(image.id);
    }
    expect(it.store.find(`${name}@${image.digest}`)?.id).toBe(image.id);
    expect(it.store.find(`${name}:latest@${image.digest}`)?.id).toBe(image.id);
    for (const reference of ["", hex.slice(0, 2), `${name}:other`, "find", "busybox", "%%%", "sha256:"]) {
      expect(it.store.find(reference), reference).toBeUndefined();
    }
  });

  test("one image under many names; removing one name removes all, and everything on disk", async () => {
    const before = await listStore(it.root);
    const image = tiny("names");
    for (const tag of ["1", "2", "3"]) await pushImage(registry, "names", image, tag);
    await pushImage(registry, "elsewhere", image, "1");
    for (const tag of ["1", "2", "3"]) await it.store.pull(`${registry.address}/names:${tag}`, undefined, never);
    await it.store.pull(`${registry.address}/elsewhere:1`, undefined, never);
    expect(it.store.list()).toHaveLength(1);
    expect(it.store.list()[0]?.tags).toEqual(
      ["elsewhere:1", "names:1", "names:2", "names:3"].map((name) => `${registry.address}/${name}`),
    );

    await Promise.all(["names:1", "names:2", "names:3"].map((n) => it.store.remove(`${registry.address}/${n}`)));

    expect(it.store.list()).toEqual([]);
    await it.store.remove(image.id);
    expect((await listStore(it.root)).filter((name) => name !== "index.json")).toEqual(before);
  });

  test("a tag that moves leaves the old image with its digest", async () => {
    const [old, fresh] = [tiny("old"), tiny("fresh")];
    const name = `${registry.address}/moving:latest`;
    await pushImage(registry, "moving", old, "latest");
    await it.store.pull(name, undefined, never);
    await pushImage(registry, "moving", fresh, "latest");
    await it.store.pull(name, undefined, never);
    expect(it.store.find(name)?.id).toBe(fresh.id);
    expect(it.store.find(old.id)).toMatchObject({ tags: [], repoDigests: [expect.stringContaining(old.digest)] });
  });

  test("layers that images share stay until the last one goes", async () => {
    const shared = makeLayer(makeTar([{ name: "shared", content: "1" }]));
    const one = makeImage({ layers: [shared], comment: "one" });
    const own = makeLayer(makeTar([{ name: "two", content: "2" }]));
    // The shared layer comes twice, as empty layers do in real images.
    const two = makeImage({ layers: [shared, own, shared], comment: "two" });
    await pushImage(registry, "one", one, "latest");
    await pushImage(registry, "two", two, "latest");
    await it.store.pull(`${registry.address}/one`, undefined, never);
    const second = await it.store.pull(`${registry.address}/two`, undefined, never);
    expect(second.layers).toHaveLength(2);
    expect(second.layers[0]).toContain(shared.diffId.slice(7));
    expect(second.chainIds).toHaveLength(3);
    expect(second.chainIds[0]).toBe(shared.diffId);

    await it.store.remove(one.id);
    expect(await readFile(path.join(second.layers[0] ?? "", "shared"), "utf8")).toBe("1");
    await it.store.remove(two.id);
    await expect(stat(second.layers[0] ?? "")).rejects.toThrow("ENOENT");
  });

  test("a container's layers outlive the image", async () => {
    const image = tiny("used");
    await pushImage(registry, "used", image, "latest");
    const pulled = await it.store.pull(`${registry.address}/used`, undefined, never);
    const snapshot = await it.store.prepareSnapshot("ab12", pulled.id);
    await writeFile(path.join(snapshot.upper, "data"), Buffer.alloc(100_000));
    expect((await stat(snapshot.upper)).mode & 0o7777).toBe(0o755);
    await expect(it.store.prepareSnapshot("ab12", pulled.id)).rejects.toMatchObject({ code: "AlreadyExists" });
    await expect(it.store.prepareSnapshot("../x", pulled.id)).rejects.toMatchObject({ code: "InvalidArgument" });

    await it.store.remove(image.id);
    await expect(it.store.prepareSnapshot("ab13", pulled.id)).rejects.toMatchObject({ code: "NotFound" });
    expect(await readFile(path.join(snapshot.lower[0] ?? "", "etc/used"), "utf8")).toBe("used");
    expect((await it.store.snapshotUse("ab12")).usedBytes).toBeGreaterThanOrEqual(100_000n);

    await it.store.close();
    const again = await it.reopen();
    expect(again.store.snapshots()).toEqual(["ab12"]);
    expect(await readFile(path.join(snapshot.lower[0] ?? "", "etc/used"), "utf8")).toBe("used");
    await again.store.removeSnapshot("ab12");
    await again.store.removeSnapshot("ab12");
    await expect(again.store.snapshotUse("ab12")).rejects.toMatchObject({ code: "NotFound" });
    expect(await listStore(it.root)).not.toContain(`layers/${image.layers[0]?.diffId.slice(7)}`);
    await again.dispose();
  });

  test("a writable layer whose image's layer is gone is not made, and leaves nothing", async () => {
    const image = tiny("lost");
    await pushImage(registry, "lost", image, "latest");
    const pulled = await it.store.pull(`${registry.address}/lost`, undefined, never);
    await rm(pulled.layers[0] ?? "", { recursive: true });
    await expect(it.store.prepareSnapshot("ab12", pulled.id)).rejects.toMatchObject({ name: "layerMissing" });
    expect(it.store.snapshots()).toEqual([]);
    expect(await readdir(path.join(it.root, "containers"))).toEqual([]);
  });

  test("use of writable layers passes over one that is just being made or removed", async () => {
    const image = tiny("layers");
    await pushImage(registry, "layers", image, "latest");
    const pulled = await it.store.pull(`${registry.address}/layers`, undefined, never);
    const [gone, kept] = [
      await it.store.prepareSnapshot("ab01", pulled.id),
      await it.store.prepareSnapshot("ab02", pulled.id),
    ];
    await writeFile(path.join(kept.upper, "data"), Buffer.alloc(100_000));
    const { usedBytes } = await it.store.snapshotUse("ab02");
    await rm(gone.upper, { recursive: true });
    expect((await it.store.fileSystemUse()).containers.usedBytes).toBe(usedBytes);
  });

  test("use of writable layers is told as it was while one is measured that takes long", async () => {
    let now = 0;
    let hold: Promise<void> | undefined;
    const host = loadHost();
    const slow: Host = {
      ...host,
      async diskUsage(file) {
        await hold;
        return await host.diskUsage(file);
      },
    };
    const other = await openTestStore({ now: () => now, host: slow });
    const image = tiny("slow");
    await pushImage(registry, "slow", image, "latest");
    const pulled = await other.store.pull(`${registry.address}/slow`, undefined, never);
    const { upper } = await other.store.prepareSnapshot("ab01", pulled.id);
    const before = await other.store.snapshotUse("ab01");
    await writeFile(path.join(upper, "data"), Buffer.alloc(100_000));
    now = 20_000;
    const { promise, resolve } = Promise.withResolvers<void>();
    hold = promise;
    expect(await other.store.snapshotUse("ab01")).toEqual(before);
    expect((await other.store.fileSystemUse()).containers.usedBytes).toBe(before.usedBytes);
    resolve();
    expect((await other.store.snapshotUse("ab01")).usedBytes).toBeGreaterThanOrEqual(100_000n);
    await other.dispose();
  });

  test("use of writable layers is told where one cannot be measured, with what it was last; that is said once", async () => {
    let now = 0;
    const other = await openTestStore({ now: () => now });
    const image = tiny("damaged");
    await pushImage(registry, "damaged", image, "latest");
    const pulled = await other.store.pull(`${registry.address}/damaged`, undefined, never);
    const [damaged, whole] = [
      await other.store.prepareSnapshot("ab01", pulled.id),
      await other.store.prepareSnapshot("ab02", pulled.id),
    ];
    for (const { upper } of [damaged, whole]) await writeFile(path.join(upper, "data"), Buffer.alloc(100_000));
    const before = await other.store.fileSystemUse();
    // As unreadable as on a damaged file system.
    await rm(path.dirname(damaged.upper), { recursive: true });
    await writeFile(path.dirname(damaged.upper), "");
    for (now of [20_000, 40_000]) {
      expect((await other.store.fileSystemUse()).containers.usedBytes).toBe(before.containers.usedBytes);
      expect((await other.store.snapshotUse("ab01")).timestamp).toBe(0n);
    }
    expect(other.problems).toEqual([expect.stringContaining(path.dirname(damaged.upper))]);
    await other.dispose();
  });

  test("everything is there again after a restart; what is damaged or half-made is taken down and said", async () => {
    const [whole, broken] = [tiny("whole"), tiny("broken")];
    await pushImage(registry, "whole", whole, "latest");
    await pushImage(registry, "broken", broken, "latest");
    await it.store.pull(`${registry.address}/whole`, undefined, never);
    await it.store.pull(`${registry.address}/broken`, undefined, never);
    const before = it.store.find(whole.id);
    const listing = await listStore(it.root);
    await it.store.close();
    // As after a power cut on a store that did not sync: a blob of no bytes under a valid record.
    await truncate(path.join(it.root, "blobs/sha256", broken.layers[0]?.digest.slice(7) ?? ""), 0);
    await mkdir(path.join(it.root, "staging/work-left/layer/root"), { recursive: true });
    await mkdir(path.join(it.root, "containers/abc/upper"), { recursive: true });
    await mkdir(path.join(it.root, "layers", "0".repeat(64), "root"), { recursive: true });
    await writeFile(path.join(it.root, "blobs/sha256", "1".repeat(64)), "nobody's");

    const again = await it.reopen();

    expect(again.store.list()).toEqual([before]);
    expect(again.problems).toEqual([expect.stringContaining("/broken")]);
    await again.store.pull(`${registry.address}/broken`, undefined, never);
    expect(await listStore(it.root)).toEqual(listing);
    await again.dispose();
  });

  test("what cannot be removed or read does not keep the store from opening, and goes when it can", async () => {
    const image = tiny("needed");
    await pushImage(registry, "needed", image, "latest");
    const reference = `${registry.address}/needed`;
    const { id, layers } = await it.store.pull(reference, undefined, never);
    await it.store.prepareSnapshot("ab03", id);
    await it.store.remove(reference);
    await it.store.close();
    const record = path.join(it.root, "containers/ab03/snapshot.json");
    const kept = await readFile(record);
    // Reading a directory fails like a bad sector: not as one that is missing.
    await rm(record);
    await mkdir(record);
    for (const place of ["staging/work-left", "containers/ab04"]) {
      await mkdir(path.join(it.root, place, "stuck"), { recursive: true });
    }
    const host = loadHost();
    let isStuck = true;
    const removeTree = async (tree: string) => {
      if (isStuck && existsSync(path.join(tree, "stuck"))) throw new Error(`${tree} is immutable`);
      await host.removeTree(tree);
    };

    const again = await it.reopen({ host: { ...host, removeTree } });
    expect([...again.problems].sort()).toEqual([
      expect.stringMatching(/staging\/trash-.*, .*immutable/),
      expect.stringMatching(/staging\/work-left, .*immutable/),
      expect.stringMatching(/containers\/ab03 could not be read.*EISDIR/),
    ]);
    expect(again.store.snapshots()).toEqual([]);
    isStuck = false;
    await again.store.pull(reference, undefined, never);
    await again.store.remove(reference);
    expect(await readdir(path.join(it.root, "staging"))).toEqual([]);
    for (const layer of layers) await access(layer);
    await again.store.close();

    await rm(record, { recursive: true });
    await writeFile(record, kept);
    const last = await it.reopen();
    expect(last.problems).toEqual([]);
    expect(last.store.snapshots()).toEqual(["ab03"]);
    await last.dispose();
  });

  test("a blob, a layer or a list that cannot be read costs its images, and nothing else", async () => {
    const images = ["blob", "record", "whole"].map((name) => tiny(name));
    const references = images.map(({ id }) => `${registry.address}/unread-${id.slice(7, 20)}`);
    for (const [index, image] of images.entries()) {
      await pushImage(registry, references[index]?.split("/")[1] ?? "", image, "latest");
    }
    const pull = (store: TestStore) =>
      Promise.all(references.map((reference) => store.store.pull(reference, undefined, never)));
    const [, record] = await pull(it);
    if (record === undefined) throw new Error("three images");
    await it.store.prepareSnapshot("ab05", record.id);
    await it.store.close();
    const [unread = ""] = images[0]?.layers.map(({ digest }) => `blobs/sha256/${digest.slice(7)}`) ?? [];
    await rm(path.join(it.root, unread));
    // Following a link to itself, and reading a directory, fail like a bad sector: not as what is missing.
    await symlink(path.basename(unread), path.join(it.root, unread));
    const layer = path.dirname(record.layers[0] ?? "");
    await rm(path.join(layer, "layer.json"));
    await mkdir(path.join(layer, "layer.json"));

    const again = await it.reopen();
    expect(again.store.list().map(({ id }) => id)).toEqual([images[2]?.id]);
    expect(again.problems).toEqual(
      expect.arrayContaining([
        expect.stringMatching(`${unread} could not be read.*ELOOP`),
        expect.stringMatching(`${layer} could not be read.*EISDIR`),
      ]),
    );
    const running = await open(path.join(record.layers[0] ?? "", "etc"));
    await pull(again);
    // The container that runs on the layer goes on with the files that it has.
    expect(await readdir(`/proc/self/fd/${running.fd}`)).toEqual(["record"]);
    await running.close();
    await again.store.remove(record.id);
    await again.store.removeSnapshot("ab05");
    expect(existsSync(layer)).toBe(false);
    await again.store.close();

    await rm(path.join(it.root, "index.json"));
    await mkdir(path.join(it.root, "index.json"));
    const last = await it.reopen();
    expect(last.problems).toEqual([expect.stringMatching("index.json.damaged")]);
    expect(await pull(last)).toHaveLength(3);
    await last.dispose();
  });

  test("what cannot be moved out of the store is said once and keeps nothing else in it", async () => {
    const images = ["stuck", "free"].map((name) => tiny(name));
    const references = images.map(({ id }) => `${registry.address}/moved-${id.slice(7, 20)}`);
    for (const [index, image] of images.entries()) {
      await pushImage(registry, references[index]?.split("/")[1] ?? "", image, "latest");
    }
    const [stuck = "", free = ""] = references;
    const layer = path.dirname((await it.store.pull(stuck, undefined, never)).layers[0] ?? "");
    await it.store.pull(free, undefined, never);
    await run("mount", ["--bind", layer, layer]);
    try {
      await it.store.remove(stuck);
      await it.store.remove(free);
      await expect(it.store.pull(`${registry.address}/none`, undefined, never)).rejects.toMatchObject({
        name: "notInRegistry",
      });
      expect(await readdir(path.join(it.root, "layers"))).toEqual([path.basename(layer)]);
      expect(await readdir(path.join(it.root, "blobs/sha256"))).toEqual([]);
      expect(it.problems).toEqual([expect.stringMatching(`${layer}, which nobody needs, .*EBUSY`)]);
    } finally {
      await run("umount", [layer]);
    }
    await it.store.pull(free, undefined, never);
    await it.store.remove(free);
    expect(await readdir(path.join(it.root, "layers"))).toEqual([]);
  });

  test("a damaged list of images is put aside and the store opens", async () => {
    await it.store.close();
    await writeFile(path.join(it.root, "index.json"), "{");
    const again = await it.reopen();
    expect(again.problems).toEqual([expect.stringContaining("index.json.damaged")]);
    expect(again.store.list()).toEqual([]);
    await again.dispose();
  });

  test("only one process opens a store", async () => {
    await expect(it.reopen()).rejects.toMatchObject({ code: "FailedPrecondition" });
  });

  test("what nobody may read is closed to others than root", async () => {
    for (const name of ["blobs/sha256", "layers", "containers", "staging"]) {
      expect((await stat(path.join(it.root, name))).mode & 0o777, name).toBe(0o700);
    }
  });

  test("use of images grows with a pull and shrinks with a removal", async () => {
    const image = tiny("use");
    await pushImage(registry, "use", image, "latest");
    const before = (await it.store.fileSystemUse()).images;
    await it.store.pull(`${registry.address}/use`, undefined, never);
    const after = (await it.store.fileSystemUse()).images;
    expect(after.usedBytes).toBeGreaterThan(before.usedBytes);
    expect(after.inodesUsed).toBeGreaterThan(before.inodesUsed);
    expect(after.timestamp).toBeGreaterThan(0n);
    await it.store.remove(image.id);
    expect((await it.store.fileSystemUse()).images.usedBytes).toBe(before.usedBytes);
  });

  test("the layout on disk is one that OCI tools read", async () => {
    const image = tiny("layout");
    await pushImage(registry, "layout", image, "v2");
    await it.store.pull(`${registry.address}/layout:v2`, undefined, never);
    expect(JSON.parse(await readFile(path.join(it.root, "oci-layout"), "utf8"))).toEqual({
      imageLayoutVersion: "1.0.0",
    });
    const index = JSON.parse(await readFile(path.join(it.root, "index.json"), "utf8"));
    expect(index.manifests).toContainEqual({
      mediaType: image.manifestType,
      digest: image.digest,
      size: image.manifest.length,
      annotations: { "org.opencontainers.image.ref.name": `${registry.address}/layout:v2` },
    });
    expect(await readFile(path.join(it.root, "blobs/sha256", image.digest.slice(7)))).toEqual(image.manifest);
  });

  test("what the registry does not have is NotFound", async () => {
    await expect(it.store.pull(`${registry.address}/nowhere:1`, undefined, never)).rejects.toMatchObject({
      code: "NotFound",
      message: expect.stringContaining(registry.address),
    });
  });
});

describe("with a registry that wants a password", () => {
  const login = { username: "ann", password: "s3cret" };
  const image = tiny("private");
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

  test("takes user and password, or both in base64, for the right server only", async () => {
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
