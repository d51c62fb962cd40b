// Mirrors that send wrong content: the next host is tried, as if they had sent nothing.

import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import { bulkyLayer, makeImage } from "./testing/build-image.ts";
import { usePulls } from "./testing/pulls.ts";
import { type Interception, startWrongRegistry, type WrongRegistry } from "./testing/wrong-registry.ts";

const never = new AbortController().signal;
const layer = bulkyLayer(3_000_000);
const image = makeImage({ layers: [layer] });
const { it, serve } = usePulls();
let server: WrongRegistry;

beforeEach(async () => {
  server = await serve();
  server.add(image, "1");
});

async function startMirror(intercept: Interception): Promise<WrongRegistry> {
  const mirror = await startWrongRegistry(intercept);
  mirror.add(image, "1");
  const directory = path.join(it().hostsDirectory, "reg.example");
  await mkdir(directory, { recursive: true });
  const text = `server = "http://${server.address}"\n[host."http://${mirror.address}"]`;
  await writeFile(path.join(directory, "hosts.toml"), text);
  return mirror;
}

const page = Buffer.from("<html>Sign in</html>");
const isFor = (part: string) => (url: string) => url.includes(part);

function instead(isMeant: (url: string) => boolean, bytes: Buffer): Interception {
  return ({ url }, response) => {
    if (!isMeant(url)) return false;
    response.writeHead(200, { "content-type": "text/html", "content-length": bytes.length }).end(bytes);
    return true;
  };
}

function cutOff(isMeant: (url: string) => boolean, bytes: number, size: number): Interception {
  return ({ url }, response) => {
    if (!isMeant(url)) return false;
    response.writeHead(200, { "content-length": size });
    // With a FIN: a reset would also discard data that the client has not read yet.
    response.write(layer.blob.subarray(0, bytes), () => response.socket?.end());
    return true;
  };
}

test.each([
  ["a page for everything", instead(() => true, page)],
  ["a page for manifests", instead(isFor("/manifests/"), page)],
  ["a page for a config", instead(isFor(image.id), page)],
  ["a page for a layer", instead(isFor(layer.digest), page)],
  ["other bytes for a layer", instead(isFor(layer.digest), Buffer.alloc(layer.blob.length, 1))],
  ["nothing of a layer, repeatedly", cutOff(isFor(layer.digest), 0, layer.blob.length)],
  ["the same half of a layer, repeatedly", cutOff(isFor(layer.digest), 1_000_000, layer.blob.length)],
  ["nothing of a config, repeatedly", cutOff(isFor(image.id), 0, image.config.length)],
])("a mirror that sends %s is skipped", async (_name, intercept) => {
  const mirror = await startMirror(intercept);
  try {
    expect((await it().store.pull("reg.example/app:1", undefined, never)).id).toBe(image.id);
    expect(mirror.requests.length).toBeGreaterThan(0);
  } finally {
    await mirror.stop();
  }
});

test("a layer that a mirror started with wrong bytes and another host completed is refetched from that host", async () => {
  const broken = Buffer.alloc(1_000_000, 1);
  const mirror = await startMirror(({ url }, response) => {
    if (!url.includes(layer.digest)) return false;
    response.writeHead(200, { "content-length": layer.blob.length });
    response.write(broken, () => response.socket?.end());
    return true;
  });
  try {
    expect((await it().store.pull("reg.example/app:1", undefined, never)).id).toBe(image.id);
  } finally {
    await mirror.stop();
  }
});

test("a layer that is wrong everywhere is refused with the reason, and requested once from each host", async () => {
  const wrong = Buffer.from(layer.blob);
  wrong[wrong.length - 5] = (wrong[wrong.length - 5] ?? 0) ^ 1;
  server.setBlob(layer.digest, wrong);
  const mirror = await startMirror(instead(isFor(layer.digest), wrong));
  try {
    await expect(it().store.pull("reg.example/app:1", undefined, never)).rejects.toThrow(layer.digest);
    expect([mirror, server].map((host) => host.seen(layer.digest).length)).toEqual([1, 1]);
  } finally {
    await mirror.stop();
  }
});
