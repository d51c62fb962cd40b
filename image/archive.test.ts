// Loads archives from various tools, valid and hostile, into a real store.

import { execFile } from "node:child_process";
import { createWriteStream } from "node:fs";
import { access, mkdir, mkdtemp, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { createGzip, gzipSync, zstdCompressSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { unpackLayer } from "../native/index.ts";
import {
  type BuiltImage,
  bulkyLayer,
  makeImage,
  makeIndex,
  makeLayer,
  makeTar,
  type TarEntry,
} from "./testing/build-image.ts";
import { listStore, openTestStore, type TestStore } from "./testing/store.ts";

const never = new AbortController().signal;
const run = promisify(execFile);
const base = makeLayer(makeTar([{ name: "base", content: "base" }]));
const top = makeLayer(makeTar([{ name: "top", content: "top" }]), "zstd");
const image = makeImage({ layers: [base, top], defaults: { User: "7" } });
let it: TestStore;
let directory: string;

beforeEach(async () => {
  it = await openTestStore();
  directory = await mkdtemp(path.join(tmpdir(), "keelson-archive-"));
});
afterEach(async () => {
  await it.dispose();
  await rm(directory, { recursive: true });
});

interface Named {
  readonly image: BuiltImage;
  readonly annotations: Readonly<Record<string, string>>;
}

function indexOf(images: readonly Named[]): string {
  const manifests = images.map(({ image: { manifestType, digest, manifest }, annotations }) => ({
    mediaType: manifestType,
    digest,
    size: manifest.length,
    annotations,
  }));
  return JSON.stringify({ schemaVersion: 2, manifests });
}

function ociEntries(images: readonly Named[], index = indexOf(images)): TarEntry[] {
  const blobs = images.flatMap(({ image: { digest, manifest, id, config, layers } }): [string, Buffer][] => [
    [digest, manifest],
    [id, config],
    ...layers.map((layer): [string, Buffer] => [layer.digest, layer.blob]),
  ]);
  return [
    { name: "oci-layout", content: '{"imageLayoutVersion":"1.0.0"}' },
    { name: "blobs/" },
    { name: "blobs/sha256/" },
    ...blobs.map(([digest, content]) => ({ name: `blobs/sha256/${digest.slice(7)}`, content })),
    { name: "index.json", content: index },
  ];
}

async function writeTar(entries: readonly TarEntry[]): Promise<string> {
  const file = path.join(directory, "archive.tar");
  await writeFile(file, makeTar(entries));
  return file;
}

const refName = "org.opencontainers.image.ref.name";
const named = [{ image, annotations: { [refName]: "reg.io/app:1" } }];

/** Loads, expects the failure, and expects the store to be as it was before. */
async function expectCleanFailure(file: string, error: object): Promise<void> {
  const before = await listStore(it.root);
  await expect(it.store.load(file, never)).rejects.toMatchObject(error);
  expect(await listStore(it.root)).toEqual(before);
}

describe("loads", () => {
  async function expectLoaded(file: string, tags: readonly string[]): Promise<void> {
    const [loaded, ...more] = await it.store.load(file, never);
    expect(more).toEqual([]);
    expect(loaded).toMatchObject({ id: image.id, tags, repoDigests: [], config: { user: "7" } });
    expect(await readFile(path.join(loaded?.layers[0] ?? "", "top"), "utf8")).toBe("top");
    expect(await readFile(path.join(loaded?.layers[1] ?? "", "base"), "utf8")).toBe("base");
    expect(it.store.find(image.id)).toEqual(loaded);
  }

  test("an OCI layout in a tar", async () => expectLoaded(await writeTar(ociEntries(named)), ["reg.io/app:1"]));

  test("one compressed with zstd", async () => {
    const file = path.join(directory, "archive.tar.zst");
    await writeFile(file, zstdCompressSync(makeTar(ociEntries(named))));
    expect((await it.store.load(file, never)).map(({ tags }) => tags)).toEqual([["reg.io/app:1"]]);
    await writeFile(file, zstdCompressSync(makeTar(ociEntries(named))).subarray(0, -20));
    await expect(it.store.load(file, never)).rejects.toMatchObject({ code: "InvalidArgument" });
  });

  test("a gzipped one", async () => {
    const file = path.join(directory, "archive.tar.gz");
    await writeFile(file, gzipSync(makeTar(ociEntries(named))));
    await expectLoaded(file, ["reg.io/app:1"]);
    expect(await listStore(it.root)).not.toContainEqual(expect.stringContaining("staging/"));
  });

  test("one that GNU tar wrote with long names and a leading ./", async () => {
    for (const format of ["gnu", "pax"]) {
      const layout = path.join(directory, format);
      await mkdir(path.join(layout, "blobs/sha256"), { recursive: true });
      for (const { name, content } of ociEntries(named)) {
        if (content !== undefined) await writeFile(path.join(layout, name), content);
      }
      const file = path.join(directory, `${format}.tar`);
      await writeFile(path.join(layout, "n".repeat(200)), "a name that needs an extra header");
      await run("tar", ["--create", `--format=${format}`, "--file", file, "--directory", layout, "."]);
      await expectLoaded(file, ["reg.io/app:1"]);
      await it.store.remove(image.id);
    }
  });

  test("a layout directory", async () => {
    const layout = path.join(directory, "layout");
    await mkdir(path.join(layout, "blobs/sha256"), { recursive: true });
    for (const { name, content } of ociEntries(named)) {
      if (content !== undefined) await writeFile(path.join(layout, name), content);
    }
    await expectLoaded(layout, ["reg.io/app:1"]);
  });

  test("the layout of another store", async () => {
    await it.store.load(await writeTar(ociEntries(named)), never);
    const other = await openTestStore();
    expect(await other.store.load(it.root, never)).toMatchObject([{ id: image.id, tags: ["reg.io/app:1"] }]);
    await other.dispose();
  });

  test("docker save, with plain, gzipped and linked layers", async () => {
    const plain = makeLayer(makeTar([{ name: "plain", content: "plain" }]), "none");
    const saved = makeImage({ layers: [plain, base, plain], comment: "docker" });
    const docker = [
      {
        Config: "config.json",
        RepoTags: ["app:1", "reg.io/app:2"],
        Layers: ["a/layer.tar", "b/layer.tar.gz", "c/layer.tar"],
      },
    ];
    const file = await writeTar([
      { name: "a/layer.tar", content: plain.blob },
      { name: "b/layer.tar.gz", content: base.blob },
      { name: "c/layer.tar", link: "../a/layer.tar" },
      { name: "config.json", content: saved.config },
      { name: "manifest.json", content: JSON.stringify(docker) },
    ]);
    const [loaded] = await it.store.load(file, never);
    expect(loaded).toMatchObject({ id: saved.id, tags: ["docker.io/library/app:1", "reg.io/app:2"] });
    expect(await readFile(path.join(loaded?.layers[0] ?? "", "plain"), "utf8")).toBe("plain");
    expect(loaded?.layers).toHaveLength(2);
  });

  test("many images and names, and an index in an index", async () => {
    const other = makeImage({ layers: [base], comment: "other" });
    const index = makeIndex([{ image: other, architecture: process.arch === "arm64" ? "arm64" : "amd64" }]);
    const inner = makeLayer(index, "none");
    const descriptor = {
      mediaType: "application/vnd.oci.image.index.v1+json",
      digest: inner.digest,
      size: index.length,
    };
    const outer = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [descriptor] }));
    const nested = makeLayer(outer, "none");
    const entries = [
      ...ociEntries([...named, { image, annotations: { "io.containerd.image.name": "reg.io/app:2", [refName]: "2" } }]),
      ...ociEntries([{ image: other, annotations: {} }]),
      { name: `blobs/sha256/${inner.digest.slice(7)}`, content: index },
      { name: `blobs/sha256/${nested.digest.slice(7)}`, content: outer },
    ];
    const list = JSON.parse(String(entries.find(({ name }) => name === "index.json")?.content));
    list.manifests.push({
      mediaType: "application/vnd.oci.image.index.v1+json",
      digest: nested.digest,
      size: outer.length,
      annotations: { [refName]: "nested" },
    });
    const loaded = await it.store.load(
      await writeTar([...entries, { name: "index.json", content: JSON.stringify(list) }]),
      never,
    );
    expect(loaded.map(({ id, tags }) => [id, tags])).toEqual([
      [image.id, ["reg.io/app:1", "reg.io/app:2"]],
      [other.id, []],
    ]);
  });

  test("an empty layer", async () => {
    const empty = makeLayer(Buffer.alloc(0), "none");
    const saved = makeImage({ layers: [base, empty] });
    const docker = [{ Config: "config.json", RepoTags: ["app:1"], Layers: ["a/layer.tar", "b/layer.tar"] }];
    const file = await writeTar([
      { name: "a/layer.tar", content: base.blob },
      { name: "b/layer.tar", content: "" },
      { name: "config.json", content: saved.config },
      { name: "manifest.json", content: JSON.stringify(docker) },
    ]);
    expect(await it.store.load(file, never)).toMatchObject([{ id: saved.id }]);
  });

  test("an image without a name, which survives a restart", async () => {
    await it.store.load(await writeTar(ociEntries([{ image, annotations: { [refName]: "latest" } }])), never);
    expect(it.store.find(image.id)).toMatchObject({ tags: [] });
    await it.store.close();
    const again = await it.reopen();
    expect(again.store.find(image.id)).toMatchObject({ tags: [] });
    await again.dispose();
  });
});

describe("refuses", () => {
  test.each<readonly [string, TarEntry[], object]>([
    ["an archive of something else", [{ name: "x", content: "x" }], { code: "InvalidArgument" }],
    [
      "an empty list",
      [{ name: "index.json", content: '{"schemaVersion":2,"manifests":[]}' }],
      { code: "InvalidArgument" },
    ],
    ["a list that is a link out", [{ name: "index.json", link: "/etc/passwd" }], { code: "InvalidArgument" }],
    [
      "a missing layer",
      ociEntries(named).filter(({ name }) => !name.includes(base.digest.slice(7))),
      { code: "InvalidArgument" },
    ],
    [
      "a forged layer",
      [...ociEntries(named), { name: `blobs/sha256/${base.digest.slice(7)}`, content: top.blob }],
      { name: "sizeMismatch" },
    ],
    [
      "a forged config",
      [
        ...ociEntries(named),
        { name: `blobs/sha256/${image.id.slice(7)}`, content: Buffer.alloc(image.config.length, " ") },
      ],
      { name: "digestMismatch" },
    ],
    ["an invalid name", ociEntries([{ image, annotations: { [refName]: "../../x:y" } }]), { code: "InvalidArgument" }],
    [
      "docker save without its config",
      [{ name: "manifest.json", content: '[{"Config":"../../etc/passwd","Layers":[]}]' }],
      { code: "InvalidArgument" },
    ],
    ["docker save that is a list of texts", [{ name: "manifest.json", content: '["x"]' }], { name: "malformed" }],
  ])("%s", async (_name, entries, error) => expectCleanFailure(await writeTar(entries), error));

  test("a FIFO without a writer, immediately", async () => {
    const fifo = path.join(directory, "fifo");
    await run("mkfifo", [fifo]);
    await expect(it.store.load(fifo, never)).rejects.toThrow("it is neither a file nor a directory");
  }, 5_000);

  test("a layer of the right size with other content", async () => {
    const plain = makeLayer(makeTar([{ name: "good", content: "good" }]), "none");
    const evil = makeTar([{ name: "evil", content: "evil" }]);
    const whole = makeImage({ layers: [plain] });
    const entries = ociEntries([{ image: whole, annotations: {} }]);
    await expectCleanFailure(
      await writeTar([...entries, { name: `blobs/sha256/${plain.digest.slice(7)}`, content: evil }]),
      { name: "digestMismatch" },
    );
  });

  test("a missing file, a file that is not an archive, and a truncated one", async () => {
    await expectCleanFailure(path.join(directory, "missing"), { code: "InvalidArgument" });
    await expectCleanFailure("/dev/zero", {
      code: "InvalidArgument",
      message: expect.stringMatching(
        /^The image archive \/dev\/zero cannot be loaded: it is neither .* directory\. Provide/,
      ),
    });
    const text = path.join(directory, "text");
    await writeFile(text, "no archive at all. ".repeat(100));
    await expectCleanFailure(text, { code: "InvalidArgument" });
    const cut = path.join(directory, "cut");
    await writeFile(cut, makeTar(ociEntries(named)).subarray(0, 2000));
    await expectCleanFailure(cut, { code: "InvalidArgument" });
    const gzip = path.join(directory, "cut.gz");
    await writeFile(gzip, gzipSync(makeTar(ociEntries(named))).subarray(0, -20));
    await expectCleanFailure(gzip, { code: "InvalidArgument" });
  });

  test("members with paths outside the root change nothing on the host", async () => {
    const victim = path.join(directory, "victim");
    await it.store.load(
      await writeTar([
        { name: `../../../../../../..${victim}`, content: "x" },
        { name: victim, content: "x" },
        { name: "way", link: directory },
        { name: "way/victim", content: "x" },
        ...ociEntries(named),
      ]),
      never,
    );
    await expect(access(victim)).rejects.toThrow("ENOENT");
  });

  test("links in a layout directory", async () => {
    const layout = path.join(directory, "layout");
    await mkdir(path.join(layout, "blobs/sha256"), { recursive: true });
    for (const { name, content } of ociEntries(named)) {
      if (content !== undefined) await writeFile(path.join(layout, name), content);
    }
    await rename(path.join(layout, "index.json"), path.join(directory, "elsewhere"));
    await symlink("../elsewhere", path.join(layout, "index.json"));
    await expectCleanFailure(layout, {
      code: "InvalidArgument",
      message: expect.stringContaining("neither index.json"),
    });
  });

  test("gigabytes of zeros, in bounded memory", async () => {
    // One document of 1 GiB, about 1 MB gzipped.
    const size = 1024 ** 3;
    const header = makeTar([{ name: "index.json", content: "" }]).subarray(0, 512);
    header.write(size.toString(8).padStart(11, "0"), 124);
    header.write("        ", 148);
    header.write(
      `${header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, "0")}\0 `,
      148,
    );
    const zeros = function* () {
      yield header;
      for (let done = 0; done < size; done += 1024 ** 2) yield Buffer.alloc(1024 ** 2);
      yield Buffer.alloc(1024);
    };
    const file = path.join(directory, "zeros.tar.gz");
    await pipeline(Readable.from(zeros()), createGzip({ level: 1 }), createWriteStream(file));
    expect((await stat(file)).size).toBeLessThan(20_000_000);
    const before = process.memoryUsage().rss;
    await expectCleanFailure(file, { code: "ResourceExhausted" });
    expect(process.memoryUsage().rss - before).toBeLessThan(150 * 1024 ** 2);
  });
});

test.each([
  ["accepts nothing", "exec sleep 1000000", "accepted no data for 300000 ms"],
  ["accepts everything but does not exit", "cat >/dev/null; exec sleep 1000000", "did not exit within 600000 ms"],
])("an unpacker that %s times out", async (_, script, words) => {
  const program = path.join(directory, "unpacker");
  await writeFile(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const hanging = await openTestStore({ unpack: (options) => unpackLayer(program, options) });
  onTestFinished(() => hanging.dispose());
  const large = makeImage({ layers: [bulkyLayer(1_000_000)] });
  const file = await writeTar(ociEntries([{ image: large, annotations: {} }]));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const before = await listStore(hanging.root);
  let failure: unknown;
  hanging.store.load(file, never).catch((error: unknown) => {
    failure = error;
  });
  const isGivenUp = () => {
    vi.advanceTimersByTime(60_000);
    return failure !== undefined;
  };
  await vi.waitUntil(isGivenUp, { timeout: 10_000, interval: 20 });
  expect(failure).toMatchObject({ name: "layerRefused", message: expect.stringContaining(words) });
  expect(await listStore(hanging.root)).toEqual(before);
});
