// Image calls through the real services on a real socket: ImageService, and Keelson's own calls for save and load.

import { status } from "@grpc/grpc-js";
import { expect, test, vi } from "vitest";
import type { Image, ImageId, RegistryAuth } from "../../image/types.ts";
import { type Answer, failure } from "./testing/client.ts";
import { serveEdge } from "./testing/edge.ts";
import { memoryPods } from "./testing/memory-pods.ts";

const id = `sha256:${"b".repeat(64)}` as ImageId;
const image = (user: string): Image => ({
  id,
  tags: ["docker.io/library/busybox:1"],
  repoDigests: [],
  size: 2n ** 40n + 1n,
  config: { env: [], entrypoint: [], cmd: [], workingDir: "", user, volumes: [], stopSignal: "", labels: new Map() },
  pinned: true,
  layers: [],
  chainIds: [],
});

test("users are uids or names", async () => {
  const users = ["", "0", "1000:100", "www-data:users"];
  await using edge = await serveEdge(memoryPods(), { list: () => users.map(image) });
  const { images } = await edge.client.call("ListImages");
  const seen = (images as Answer[]).map(({ uid, username }) => [uid, username]);
  expect(seen).toEqual([
    [null, ""],
    [{ value: "0" }, ""],
    [{ value: "1000" }, ""],
    [null, "www-data"],
  ]);
  expect(images).toMatchObject([{ id, size: "1099511627777", pinned: true }, {}, {}, {}]);
});

test("a missing image is an empty response, an empty name an error", async () => {
  await using edge = await serveEdge(memoryPods(), { find: () => undefined });
  expect(await edge.client.call("ImageStatus", { image: { image: "nothing" } })).toMatchObject({ image: null });
  expect(await edge.client.call("ListImages", { filter: { image: { image: "nothing" } } })).toEqual({ images: [] });
  expect((await failure(edge.client.call("ImageStatus"))).code).toBe(status.INVALID_ARGUMENT);
  expect((await failure(edge.client.call("PullImage", { image: {} }))).details).toContain("image.image is missing");
});

test("a pull passes on credentials and returns the image's id", async () => {
  const seen: (RegistryAuth | undefined)[] = [];
  const pull = async (_reference: string, auth: RegistryAuth | undefined) => {
    seen.push(auth);
    return image("");
  };
  await using edge = await serveEdge(memoryPods(), { pull });
  const request = { image: { image: "busybox" }, auth: { username: "u", password: "p", serverAddress: "r" } };
  expect(await edge.client.call("PullImage", request)).toEqual({ imageRef: id });
  await edge.client.call("PullImage", { image: { image: "busybox" }, auth: { serverAddress: "r" } });
  expect(seen).toEqual([expect.objectContaining({ username: "u", password: "p", serverAddress: "r" }), undefined]);
});

test("both file systems are reported", async () => {
  const use = { mountpoint: "/m", usedBytes: 2n ** 60n, inodesUsed: 3n, timestamp: 1_795_223_900_123_456_789n };
  await using edge = await serveEdge(memoryPods(), { fileSystemUse: async () => ({ images: use, containers: use }) });
  const told = {
    timestamp: "1795223900123456789",
    fsId: { mountpoint: "/m" },
    usedBytes: { value: String(2n ** 60n) },
  };
  expect(await edge.client.call("ImageFsInfo")).toMatchObject({
    imageFilesystems: [told],
    containerFilesystems: [told],
  });
});

test("blobs to be saved are kept until the caller ends the call, but at most a minute", async () => {
  let kept = 0;
  const hold = () => {
    kept += 1;
    return { index: Buffer.from("{}"), blobs: [{ digest: "sha256:a", size: 3, path: "/a" }], release: () => kept-- };
  };
  await using edge = await serveEdge(memoryPods(), { hold } as object);
  const save = (caller: AbortController) =>
    edge.client.stream("Save", { images: ["a"] }, caller.signal)[Symbol.asyncIterator]();
  const [opening, stopped] = [new AbortController(), new AbortController()];
  const first = save(opening);
  expect((await first.next()).value).toMatchObject({ blobs: [{ size: "3", path: "/a" }] });
  expect(kept).toBe(1);
  opening.abort();
  expect((await failure(first.next())).code).toBe(status.CANCELLED);
  await expect.poll(() => kept).toBe(0);

  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const second = save(stopped);
    await second.next();
    await vi.advanceTimersByTimeAsync(59_000);
    expect(kept).toBe(1);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(kept).toBe(0);
    expect(await failure(second.next())).toMatchObject({
      code: status.DEADLINE_EXCEEDED,
      details: expect.stringContaining("were kept for 60 s"),
    });
  } finally {
    vi.useRealTimers();
  }
});

test("load accepts only an absolute path", async () => {
  await using edge = await serveEdge(memoryPods(), { load: async () => [image("")] });
  expect((await failure(edge.client.call("Load", { path: "x.tar" }))).code).toBe(status.INVALID_ARGUMENT);
  expect(await edge.client.call("Load", { path: "/x.tar" })).toMatchObject({ images: [{ id }] });
});
