// Directories that contain files of a layer but have no entry in it: they look as in the layers below.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { loadHost } from "../native/index.ts";
import { type TarEntry, tar } from "../native/unpack/testing/tar.ts";
import { makeImage, makeLayer } from "./testing/build-image.ts";
import { usePulls } from "./testing/pulls.ts";
import { listStore, openTestStore } from "./testing/store.ts";
import type { Image } from "./types.ts";

const never = new AbortController().signal;
const { it, serve } = usePulls();

const base: readonly TarEntry[] = [
  { name: "./", type: "5", mode: 0o555, uid: 7, gid: 8 },
  { name: "tmp/", type: "5", mode: 0o1777, mtime: 1_500_000_000 },
  { name: "var/", type: "5", mode: 0o750, uid: 0, gid: 5 },
  {
    name: "var/lib/",
    type: "5",
    mode: 0o2775,
    uid: 1000,
    gid: 50,
    // The kernel accepts setting the second one, but does not return it.
    pax: { "SCHILY.xattr.user.owner": "me", "SCHILY.xattr.security.capability": "" },
  },
  { name: "plain/", type: "5", mode: 0o755 },
  { name: "gone/", type: "5", mode: 0o700 },
  { name: "again/", type: "5", mode: 0o700 },
  { name: "hidden/", type: "5", mode: 0o700 },
  { name: "link", type: "2", link: "tmp" },
  { name: "file" },
];

async function pull(...layers: (readonly TarEntry[])[]): Promise<Image> {
  const registry = await serve();
  registry.add(makeImage({ layers: layers.map((entries) => makeLayer(tar(...entries))) }), "1");
  return await it().store.pull(`${registry.address}/app:1`, undefined, never);
}

/** The container's view: `mode uid gid` by path. */
function seen(image: Image, ...paths: string[]): readonly string[] {
  return merged(image, (root) =>
    paths.map((name) => execFileSync("stat", ["-c", "%a %u %g", path.join(root, name)], { encoding: "utf8" }).trim()),
  );
}

function merged<Result>(image: Image, look: (root: string) => Result): Result {
  const mountpoint = mkdtempSync(path.join(tmpdir(), "keelson-mount-"));
  const options = `ro,lowerdir=${[...image.layers, mountpoint].join(":")}`;
  execFileSync("mount", ["-t", "overlay", "keelson-test", "-o", options, mountpoint]);
  try {
    return look(mountpoint);
  } finally {
    execFileSync("umount", [mountpoint]);
    rmdirSync(mountpoint);
  }
}

test("have mode, owner, attributes and time of the directory below", async () => {
  const image = await pull(base, [{ name: "tmp/new" }, { name: "var/lib/app/new" }], [{ name: "var/lib/.wh.old" }]);
  expect(seen(image, "", "tmp", "var", "var/lib", "var/lib/app")).toEqual([
    "755 0 0",
    "1777 0 0",
    "750 0 5",
    "2775 1000 50",
    "755 0 0",
  ]);
  merged(image, (root) => {
    const script = "import os, sys; print(os.getxattr(sys.argv[1], 'user.owner').decode())";
    expect(
      execFileSync("python3", ["-c", script, path.join(root, "var/lib")])
        .toString()
        .trim(),
    ).toBe("me");
    expect(
      execFileSync("stat", ["-c", "%Y", path.join(root, "tmp")])
        .toString()
        .trim(),
    ).toBe("1500000000");
  });
});

test("follow the layers in between, but nothing that is hidden, a link, or not a directory", async () => {
  const image = await pull(
    base,
    [
      { name: ".wh.gone" },
      { name: "hidden/.wh..wh..opq" },
      { name: "tmp/", type: "5", mode: 0o711, uid: 3 },
      { name: "var/", type: "5", mode: 0o700 },
    ],
    [{ name: "gone/new" }, { name: ".wh.again" }, { name: "again/new" }, { name: "hidden/new" }, { name: "plain/new" }],
    [{ name: "tmp/x" }, { name: "link/x" }, { name: "file/x" }, { name: "late/x" }, { name: "var/lib/x" }],
    [{ name: "late/", type: "5", mode: 0o701 }, { name: "file/y" }, { name: ".wh.plain" }],
  );
  expect(seen(image, "gone", "again", "hidden", "tmp", "link", "file", "late", "var", "var/lib")).toEqual([
    "755 0 0",
    "755 0 0",
    "700 0 0",
    "711 3 0",
    "755 0 0",
    "755 0 0",
    "701 0 0",
    "700 0 0",
    "2775 1000 50",
  ]);
  merged(image, (root) => {
    expect(readdirSync(root).sort()).not.toContain("plain");
    expect(readdirSync(path.join(root, "hidden"))).toEqual(["new"]);
    expect(readdirSync(path.join(root, "tmp"))).toEqual(["x"]);
  });
});

test("an opaque directory still looks like those below, one that was removed and recreated does not", async () => {
  const removed = [{ name: "again/new" }, { name: ".wh.again" }];
  const image = await pull(base, [{ name: "hidden/.wh..wh..opq" }, ...removed], [{ name: "again/newer" }]);
  expect(seen(image, "hidden", "again")).toEqual(["700 0 0", "755 0 0"]);
  merged(image, (root) => expect(readdirSync(path.join(root, "again")).sort()).toEqual(["new", "newer"]));
});

test("inherit nothing from a set-group-ID parent directory", async () => {
  const image = await pull([{ name: "s/", type: "5", mode: 0o2775, gid: 9 }, { name: "s/unnamed/x" }]);
  expect(statSync(path.join(image.layers[0] ?? "", "s/unnamed"))).toMatchObject({ mode: 0o40755, gid: 0 });
});

test("an entry behind the directory's first file counts", async () => {
  const image = await pull(base, [{ name: "tmp/new" }, { name: "tmp/", type: "5", mode: 0o700 }]);
  expect(seen(image, "tmp")).toEqual(["700 0 0"]);
});

test("layers are walked for one image at a time, and a pull that waits for its turn can be cancelled", async () => {
  const host = loadHost();
  const [begun, end] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let walks = 0;
  const coverUnnamed: typeof host.coverUnnamed = async (layers, into) => {
    walks += 1;
    // The first image, with all layers, is complete at once.
    if (layers.length === 2) {
      begun.resolve();
      await end.promise;
    }
    return await host.coverUnnamed(layers, into);
  };
  const { store, root, dispose } = await openTestStore({ host: { ...host, coverUnnamed } });
  onTestFinished(dispose);
  const registry = await serve();
  const [below, ...above] = [base, [{ name: "tmp/1" }], [{ name: "tmp/2" }]].map((layer) => makeLayer(tar(...layer)));
  if (below === undefined) throw new Error("no layers");
  registry.add(makeImage({ layers: [below, ...above] }), "all");
  for (const [index, layer] of above.entries()) registry.add(makeImage({ layers: [below, layer] }), `${index}`);
  const pull = (tag: string, signal = never) => store.pull(`${registry.address}/app:${tag}`, undefined, signal);
  await pull("all");

  const first = pull("0");
  await begun.promise;
  const givingUp = new AbortController();
  const second = pull("1", givingUp.signal);
  // Each has a directory for the result of its walk, and fetches no layer.
  await expect.poll(() => readdirSync(path.join(root, "staging"))).toHaveLength(2);
  givingUp.abort();
  await expect(second).rejects.toMatchObject({ code: "Cancelled" });
  expect(walks).toBe(2);
  end.resolve();
  expect((await first).layers).toHaveLength(3);
});

test("no additional layer when the directories look the same", async () => {
  const image = await pull([{ name: "opt/", type: "5", mode: 0o755 }], [{ name: "opt/new" }]);
  expect(image.layers).toHaveLength(2);
});

test("the need for a cover is checked once for all images of the same layers, while these exist", async () => {
  const host = loadHost();
  let looks = 0;
  const { store, dispose } = await openTestStore({
    host: {
      ...host,
      coverUnnamed: (layers, into) => {
        looks += 1;
        return host.coverUnnamed(layers, into);
      },
    },
  });
  onTestFinished(dispose);
  const registry = await serve();
  const layers = [tar({ name: "opt/", type: "5", mode: 0o755 }), tar({ name: "opt/new" })].map((bytes) =>
    makeLayer(bytes),
  );
  const tags = ["1", "2"];
  for (const tag of tags) registry.add(makeImage({ layers, comment: tag }), tag);
  const pulled: Image[] = [];
  for (const tag of tags) pulled.push(await store.pull(`${registry.address}/app:${tag}`, undefined, never));
  expect(looks).toBe(1);
  for (const { id } of pulled) await store.remove(id);
  await store.pull(`${registry.address}/app:1`, undefined, never);
  expect(looks).toBe(2);
});

test("a cover survives a restart, is visible in the container, and is removed with the image", async () => {
  const image = await pull(base, [{ name: "tmp/new" }]);
  expect(image.layers).toHaveLength(3);
  await it().store.close();
  const again = await it().reopen();
  const [found] = again.store.list();
  expect(found?.layers).toEqual(image.layers);
  expect((await again.store.prepareSnapshot("abc", image.id)).lower).toEqual(image.layers);
  await again.store.remove(image.id);
  expect(seen(image, "tmp")).toEqual(["1777 0 0"]);
  await again.store.removeSnapshot("abc");
  expect((await listStore(it().root)).filter((name) => name.startsWith("layers/"))).toEqual([]);
  await again.store.close();
});

test("are found at the maximum depth of a layer", async () => {
  const deep = "d/".repeat(255);
  const file = (name: string) => ({ name, pax: { path: `${deep}${name}` } });
  const image = await pull(base, [{ name: "d/", type: "5", mode: 0o700 }, file("old")], [file("new")]);
  expect(seen(image, "d", "d/d")).toEqual(["700 0 0", "755 0 0"]);
});
