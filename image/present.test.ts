// A pull of an existing image: a HEAD request checks whether the reference still resolves to it, which registries with
// pull limits (Docker Hub) do not count.

import { describe, expect, onTestFinished, test } from "vitest";
import { makeImage, makeIndex, makeLayer, makeTar, pushImage } from "./testing/build-image.ts";
import { startProxy } from "./testing/proxy.ts";
import { usePulls } from "./testing/pulls.ts";
import { startRegistry } from "./testing/registry.ts";
import { openTestStore } from "./testing/store.ts";
import type { Interception, WrongRegistry } from "./testing/wrong-registry.ts";

const never = new AbortController().signal;
const { it, serve } = usePulls();
const layer = makeLayer(makeTar([{ name: "a", content: "a" }]));
const image = makeImage({ layers: [layer] });
const other = makeImage({ layers: [layer], comment: "other" });
const indexType = "application/vnd.oci.image.index.v1+json";

async function pulled(intercept?: Interception): Promise<{ registry: WrongRegistry; name: string }> {
  const registry = await serve(intercept);
  registry.add(image, "1");
  const name = `${registry.address}/app:1`;
  await it().store.pull(name, undefined, never);
  return { registry, name };
}

/** The requests of another pull: `METHOD kind/name`. */
async function asked(registry: WrongRegistry, name: string, { store } = it()): Promise<readonly string[]> {
  const before = registry.requests.length;
  await store.pull(name, undefined, never);
  return registry.requests.slice(before).map(({ method, url }) => `${method} ${url.replace(/^\/v2\/app\//, "")}`);
}

describe("sends only a HEAD request", () => {
  test("by tag", async () => {
    const { registry, name } = await pulled();
    expect(await asked(registry, name)).toEqual(["HEAD manifests/1"]);
  });

  test("by digest", async () => {
    const { registry } = await pulled();
    const name = `${registry.address}/app@${image.digest}`;
    expect(await asked(registry, name)).toEqual([`HEAD manifests/${image.digest}`]);
  });

  test("of an index, after a restart too", async () => {
    const { registry } = await pulled();
    registry.addManifest(
      "many",
      makeIndex([{ image, architecture: process.arch === "arm64" ? "arm64" : "amd64" }]),
      indexType,
    );
    const name = `${registry.address}/app:many`;
    const first = await it().store.pull(name, undefined, never);
    expect(await asked(registry, name)).toEqual(["HEAD manifests/many"]);
    await it().store.close();
    const again = await it().reopen();
    onTestFinished(() => again.store.close());
    expect(await asked(registry, name, again)).toEqual(["HEAD manifests/many"]);
    expect(again.store.find(name)).toEqual(first);
  });

  test("of Debian's registry", async () => {
    const registry = await startRegistry();
    onTestFinished(() => registry.stop());
    // The proxy records the requests.
    const proxy = await startProxy(registry.address);
    onTestFinished(() => proxy.stop());
    const { store, dispose } = await openTestStore({ proxyFor: () => new URL(`http://${proxy.address}`) });
    onTestFinished(dispose);
    await pushImage(registry, "team/app", image, "1");
    const name = `${registry.address}/team/app:1`;
    const first = await store.pull(name, undefined, never);
    const before = proxy.asked.length;
    expect(await store.pull(name, undefined, never)).toEqual(first);
    expect(proxy.asked.slice(before)).toEqual([`HEAD http://${registry.address}/v2/team/app/manifests/1`]);
  });
});

describe("and fetches as usual", () => {
  test("when the tag has moved", async () => {
    const { registry, name } = await pulled();
    registry.add(other, "1");
    expect((await it().store.pull(name, undefined, never)).id).toBe(other.id);
    expect(it().store.find(image.id)?.tags).toEqual([]);
  });

  test("when the image has been removed", async () => {
    const { registry, name } = await pulled();
    await it().store.remove(name);
    expect(await asked(registry, name)).toContain("GET manifests/1");
  });

  test.each([
    ["knows no HEAD", 405],
    ["fails at it", 503],
    ["finds nothing by it", 404],
  ])("when the registry %s", async (_, status) => {
    const { registry, name } = await pulled(({ method }, response) => {
      if (method !== "HEAD") return false;
      response.writeHead(status).end();
      return true;
    });
    expect(await asked(registry, name)).toEqual(["HEAD manifests/1", "GET manifests/1"]);
  });

  test("when it returns no digest", async () => {
    const { registry, name } = await pulled(({ method }, response) => {
      if (method !== "HEAD") return false;
      response.writeHead(200, { "content-length": image.manifest.length }).end();
      return true;
    });
    expect(await asked(registry, name)).toEqual(["HEAD manifests/1", "GET manifests/1"]);
  });

  test("when it refuses, to report why", async () => {
    let refuses = false;
    const { name } = await pulled((_request, response) => {
      if (!refuses) return false;
      response.writeHead(403).end(JSON.stringify({ errors: [{ code: "DENIED", message: "not yours" }] }));
      return true;
    });
    refuses = true;
    const denied = { code: "PermissionDenied", message: expect.stringContaining("not yours") };
    await expect(it().store.pull(name, undefined, never)).rejects.toMatchObject(denied);
  });
});
