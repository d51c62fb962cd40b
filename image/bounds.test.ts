// Small untrusted inputs that once consumed much memory or disk, or blocked the event loop: each fails quickly with a
// readable error, and leaves nothing behind.

import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { threadTime } from "../native/testing/thread-time.ts";
import { paxRecords, type TarEntry, tarEntry } from "../native/unpack/testing/tar.ts";
import { parseChallenges } from "./auth.ts";
import { parseReference } from "./reference.ts";
import { type ContainerDefaults, makeImage, makeLayer, makeTar, sha256 } from "./testing/build-image.ts";
import { listStore, openTestStore, type TestStore } from "./testing/store.ts";
import { type Interception, startWrongRegistry } from "./testing/wrong-registry.ts";

const never = new AbortController().signal;
const mebibyte = 1024 ** 2;
let it: TestStore;
let directory: string;

beforeEach(async () => {
  it = await openTestStore();
  directory = await mkdtemp(path.join(tmpdir(), "keelson-bounds-"));
});
afterEach(async () => {
  await it.dispose();
  await rm(directory, { recursive: true });
});

/** The cost of an action: milliseconds in total, the longest stall of the event loop, bytes of memory. */
async function costOf(action: () => Promise<unknown>): Promise<{ wall: number; stall: number; memory: number }> {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  const memory = process.memoryUsage().rss;
  const start = performance.now();
  delay.enable();
  await action();
  delay.disable();
  return {
    wall: performance.now() - start,
    stall: delay.max / 1e6,
    memory: process.memoryUsage().rss - memory,
  };
}

/** Loads, expects the failure, and expects the store to be as it was before. */
async function expectRefusedLoad(file: string, error: object): Promise<void> {
  const before = await listStore(it.root);
  await expect(it.store.load(file, never)).rejects.toMatchObject(error);
  expect(await listStore(it.root)).toEqual(before);
}

const quick = { wall: 10_000, stall: 1000, memory: 200 * mebibyte };

function expectQuick(cost: typeof quick): void {
  expect(cost.wall).toBeLessThan(quick.wall);
  expect(cost.stall).toBeLessThan(quick.stall);
  expect(cost.memory).toBeLessThan(quick.memory);
}

describe("an image archive", () => {
  async function archiveOf(...parts: Buffer[]): Promise<string> {
    const file = path.join(directory, "archive.tar");
    await writeFile(file, Buffer.concat([...parts, Buffer.alloc(1024)]));
    return file;
  }

  test("of 8 MB of pax headers is refused immediately, with little memory and without a stall", async () => {
    // Repeated pax headers of 64 KiB with distinct keys, and no member that they apply to.
    const headers = Array.from({ length: 128 }, (_, round) => {
      const keys = Array.from({ length: 3500 }, (_key, index) => [`k${round}x${index}`, "v"] as const);
      return tarEntry({ name: "h", type: "x", content: paxRecords(Object.fromEntries(keys)).subarray(0, 65_536) });
    });
    const file = await archiveOf(...headers);
    const cost = await costOf(() => expectRefusedLoad(file, { code: "InvalidArgument" }));
    expectQuick(cost);
  });

  test.each<readonly [string, () => TarEntry[], string]>([
    ["one name of 5,000 bytes", () => [{ name: "x", pax: { path: "n".repeat(5000) } }], "name is longer than 4096"],
    [
      "names of 20 MiB in total",
      () => Array.from({ length: 6000 }, (_, index) => ({ name: "x", pax: { path: `${index}/`.padEnd(4000, "n") } })),
      "names are longer than",
    ],
    [
      "200,001 headers",
      () => Array.from({ length: 200_001 }, (): TarEntry => ({ name: "x" })),
      "more than 200000 headers",
    ],
  ])(
    "with %s is refused",
    async (_, entries, problem) => {
      const file = await archiveOf(Buffer.concat(entries().map(tarEntry)));
      const cost = await costOf(() => expectRefusedLoad(file, { message: expect.stringContaining(problem) }));
      expect(cost.stall).toBeLessThan(quick.stall);
      expect(cost.memory).toBeLessThan(quick.memory);
    },
    60_000,
  );

  test("whose manifests and configs exceed 64 MiB in total is refused before they are read", async () => {
    const layer = makeLayer(makeTar([{ name: "x" }]), "none");
    const images = Array.from({ length: 20 }, (_, index) =>
      makeImage({ layers: [layer], comment: String(index).padEnd(4_000_000) }),
    );
    const names = images.map((image) => image.id.slice(7));
    const list = names.map((name) => ({ Config: name, RepoTags: [], Layers: ["layer.tar"] }));
    const file = path.join(directory, "docker.tar");
    await writeFile(
      file,
      makeTar([
        { name: "manifest.json", content: JSON.stringify(list) },
        { name: "layer.tar", content: layer.blob },
        ...images.map((image) => ({ name: image.id.slice(7), content: image.config })),
      ]),
    );
    await expectRefusedLoad(file, { name: "tooLarge", message: expect.stringContaining("All manifests and configs") });
  });

  test("with too many names or layers is refused", async () => {
    const layer = makeLayer(makeTar([{ name: "x" }]), "none");
    const docker = (image: { config: Buffer }, tags: readonly string[], layers: readonly string[]) =>
      makeTar([
        { name: "manifest.json", content: JSON.stringify([{ Config: "c", RepoTags: tags, Layers: layers }]) },
        { name: "c", content: image.config },
        { name: "layer", content: layer.blob },
      ]);
    const one = makeImage({ layers: [layer] });
    const tags = Array.from({ length: 1001 }, (_, index) => `app:${index}`);
    await expectRefusedLoad(await archiveOf(docker(one, tags, ["layer"])), {
      message: expect.stringContaining("more than 1000 names"),
    });
    const many = makeImage({ layers: Array.from({ length: 501 }, () => layer) });
    const layers = Array.from({ length: 501 }, () => "layer");
    await expectRefusedLoad(await archiveOf(docker(many, [], layers)), {
      message: expect.stringContaining("more than 500 layers"),
    });
  });

  test("that names one large compressed layer 400 times has it hashed once", async () => {
    const bytes = gzipSync(makeTar([{ name: "x", content: Buffer.alloc(40 * mebibyte) }]), { level: 0 });
    const layer = makeLayer(makeTar([{ name: "x" }]));
    const image = makeImage({ layers: Array.from({ length: 400 }, () => layer) });
    const layers = Array.from({ length: 400 }, () => "layer");
    const file = await archiveOf(
      makeTar([
        { name: "manifest.json", content: JSON.stringify([{ Config: "c", RepoTags: [], Layers: layers }]) },
        { name: "c", content: image.config },
        { name: "layer", content: bytes },
      ]),
    );
    // 400 times 40 MiB would take about ten seconds; the layer does not match the config.
    const cost = await costOf(() => expectRefusedLoad(file, { name: "digestMismatch" }));
    expect(cost.wall).toBeLessThan(5000);
  });
});

describe("a layout directory", () => {
  const secret = "root:$6$secret:19000:0:99999:7:::\n";
  let layout: string;
  beforeEach(async () => {
    layout = path.join(directory, "layout");
    await mkdir(path.join(layout, "blobs/sha256"), { recursive: true });
    await writeFile(path.join(directory, "secret"), secret);
  });

  const withConfig = (name: string) =>
    writeFile(path.join(layout, "manifest.json"), JSON.stringify([{ Config: name, RepoTags: [], Layers: [] }]));

  async function loadError(): Promise<string> {
    return it.store.load(layout, never).then(
      () => "loaded",
      (error: Error) => error.message,
    );
  }

  test.each(["../secret", "x/../../secret"])("cannot be escaped by %s, and no error quotes the file", async (name) => {
    await mkdir(path.join(layout, "x"));
    await withConfig(name);
    const message = await loadError();
    expect(message).toContain(`lacks the file "${name}"`);
    expect(message).not.toContain("root");
  });

  test("cannot be escaped by a link, whether the last component or an earlier one", async () => {
    await symlink("..", path.join(layout, "up"));
    await symlink("../secret", path.join(layout, "here"));
    await symlink(path.join(directory, "secret"), path.join(layout, "absolute"));
    for (const name of ["up/secret", "here", "absolute", "/etc/passwd"]) {
      await withConfig(name);
      expect(await loadError()).toContain(`lacks the file "${name}"`);
    }
  });

  test("whose blobs are behind a link is refused", async () => {
    const layer = makeLayer(makeTar([{ name: "x" }]));
    const image = makeImage({ layers: [layer] });
    for (const bytes of [image.manifest, image.config, layer.blob]) {
      await writeFile(path.join(layout, "blobs/sha256", sha256(bytes).slice(7)), bytes);
    }
    const descriptor = { mediaType: image.manifestType, digest: image.digest, size: image.manifest.length };
    const index = { schemaVersion: 2, manifests: [descriptor] };
    await writeFile(path.join(layout, "index.json"), JSON.stringify(index));
    expect(await it.store.load(layout, never)).toMatchObject([{ id: image.id }]);
    await it.store.remove(image.id);
    await rename(path.join(layout, "blobs"), path.join(directory, "blobs"));
    await symlink("../blobs", path.join(layout, "blobs"));
    expect(await loadError()).toContain("lacks the file");
  });

  test("that is not JSON is not quoted", async () => {
    await writeFile(path.join(layout, "index.json"), secret);
    const message = await loadError();
    expect(message).toContain("it is not JSON");
    expect(message).not.toMatch(/root|secret:/);
  });
});

describe("a registry", () => {
  async function pullFrom(intercept: Interception, image = makeImage({ layers: [layer] })): Promise<unknown> {
    const registry = await startWrongRegistry(intercept);
    try {
      registry.add(image, "1");
      const problem = await it.store
        .pull(`${registry.address}/app:1`, undefined, never)
        .catch((error: unknown) => error);
      expect(it.store.list()).toEqual([]);
      return problem;
    } finally {
      await registry.stop();
    }
  }
  const layer = makeLayer(makeTar([{ name: "x" }]));

  test("that sends a manifest byte by byte times out, although it never stalls", async () => {
    await it.dispose();
    it = await openTestStore({
      timeouts: { connectMs: 1000, responseMs: 1000, stallMs: 1000, documentMs: 500 },
      retry: { tries: 2, firstDelayMs: 1, longestDelayMs: 1, longestAskedMs: 1 },
    });
    const problem = await pullFrom((request, response) => {
      if (!request.url.includes("/manifests/")) return false;
      response.writeHead(200, { "content-length": 4000 });
      const drip = setInterval(() => response.write(" "), 50);
      response.once("close", () => clearInterval(drip));
      return true;
    });
    expect(problem).toMatchObject({ code: "Unknown", message: expect.stringContaining("within 500 ms") });
  });

  test("that only sends interim responses times out", async () => {
    await it.dispose();
    it = await openTestStore({
      timeouts: { connectMs: 1000, responseMs: 1000, stallMs: 1000, documentMs: 1000 },
      retry: { tries: 2, firstDelayMs: 1, longestDelayMs: 1, longestAskedMs: 1 },
    });
    const problem = await pullFrom((_, response) => {
      const working = setInterval(() => response.writeProcessing(), 100);
      response.once("close", () => clearInterval(working));
      return true;
    });
    expect(problem).toMatchObject({
      code: "Unknown",
      message: expect.stringContaining("did not answer within 6000 ms"),
    });
  }, 30_000);

  test("that announces a layer above the limit gets no request for it", async () => {
    await it.dispose();
    it = await openTestStore({ limits: { bytes: BigInt(layer.blob.length) - 1n, inodes: 100n } });
    let asked = 0;
    const problem = await pullFrom((request) => {
      if (request.url.includes(layer.digest)) asked++;
      return false;
    });
    expect(problem).toMatchObject({ name: "tooLarge", code: "ResourceExhausted" });
    expect(asked).toBe(0);
  });

  test.each<readonly [string, ContainerDefaults, string]>([
    ["a USER of 4,000,000 digits", { User: "9".repeat(4_000_000) }, "its User is longer than 256"],
    ["a working directory of a megabyte", { WorkingDir: `/${"x".repeat(1_000_000)}` }, "its WorkingDir is longer"],
    ["a stop signal of a megabyte", { StopSignal: "S".repeat(1_000_000) }, "its StopSignal is longer"],
    [
      "300 volumes",
      { Volumes: Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`/v${index}`, {}])) },
      "more than 256 volumes",
    ],
  ])("that has an image with %s: refused with a short message", async (_, defaults, sentence) => {
    const problem = await pullFrom(() => false, makeImage({ layers: [layer], defaults }));
    expect(problem).toMatchObject({ code: "FailedPrecondition", message: expect.stringContaining(sentence) });
    expect(String(problem).length).toBeLessThan(1000);
  });
});

test("a reference of four megabytes is refused with a short message", () => {
  for (const text of ["a".repeat(4_000_000), `x@${"b".repeat(4_000_000)}`, `${"A-".repeat(2_000_000)}/x`]) {
    const time = threadTime();
    expect(() => parseReference(text)).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/^.{1,1000}$/) }),
    );
    expect(time()).toBeLessThan(50);
  }
});

test("challenges full of blanks are parsed in linear time, and long ones not at all", () => {
  const header = `${" ".repeat(4000)}a${" ".repeat(4000)}`;
  const time = threadTime();
  for (let round = 0; round < 20; round++) parseChallenges([header]);
  expect(time()).toBeLessThan(100);
  expect(parseChallenges([`Bearer realm="${"x".repeat(9000)}"`])).toEqual([]);
  expect(parseChallenges([' , Bearer  realm = "x" ,, service=y'])).toEqual([
    { scheme: "bearer", parameters: new Map(Object.entries({ realm: "x", service: "y" })) },
  ]);
});

test("the store accepts no more names than it can read back", async () => {
  const image = makeImage({ layers: [makeLayer(makeTar([{ name: "x" }]))] });
  const layer = image.layers[0]?.blob ?? Buffer.alloc(0);
  const list = (from: number) => [
    { Config: "c", RepoTags: Array.from({ length: 1000 }, (_, index) => `r/app:${from + index}`), Layers: ["l"] },
  ];
  for (let from = 0; from <= 8000; from += 1000) {
    const file = path.join(directory, "names.tar");
    const entries = [
      { name: "manifest.json", content: JSON.stringify(list(from)) },
      { name: "c", content: image.config },
      { name: "l", content: layer },
    ];
    await writeFile(file, makeTar(entries));
    const loading = it.store.load(file, never);
    if (from < 8000) await loading;
    else await expect(loading).rejects.toMatchObject({ name: "tooManyNames", code: "ResourceExhausted" });
  }
  await it.store.close();
  const again = await it.reopen();
  expect(again.problems).toEqual([]);
  expect(again.store.find(image.id)?.tags).toHaveLength(8000);
});
