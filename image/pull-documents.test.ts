// Pulls of invalid manifests, indexes and configs: refused, and nothing is left behind.

import { describe, expect, test } from "vitest";
import { makeImage, makeLayer, makeTar } from "./testing/build-image.ts";
import { usePulls } from "./testing/pulls.ts";
import { expectCleanFailure } from "./testing/store.ts";

const { it, serve } = usePulls();

describe("invalid documents", () => {
  const image = makeImage({ layers: [makeLayer(makeTar([{ name: "x", content: "x" }]))] });
  const parsed = JSON.parse(image.manifest.toString());

  const malformed = (problem: string) => ({ name: "malformed", message: expect.stringContaining(problem) });
  const cases: readonly (readonly [string, string | object, object])[] = [
    [
      "both manifest and index",
      { ...parsed, mediaType: undefined, manifests: [] },
      { message: expect.stringContaining("both as a manifest and as an index") },
    ],
    [
      "an index with a config",
      { schemaVersion: 2, config: parsed.config, manifests: [] },
      { message: expect.stringContaining("both as a manifest and as an index") },
    ],
    [
      "an index that says it is a manifest",
      { schemaVersion: 2, mediaType: parsed.mediaType, manifests: [] },
      malformed(`it claims to be ${parsed.mediaType} but is not`),
    ],
    ["schema 1", { schemaVersion: 1, fsLayers: [] }, { code: "Unimplemented" }],
    ["no JSON", "<html>", { name: "malformed" }],
    ["a list", [], malformed("its top level is not an object")],
    ["nested a million deep", "[".repeat(1_000_000), { name: "malformed" }],
    [
      "a digest that is a path",
      { ...parsed, config: { ...parsed.config, digest: "sha256:../../x" } },
      malformed("is not a sha256 digest"),
    ],
    ["a size that is a text", { ...parsed, layers: [{ ...parsed.layers[0], size: "9" }] }, malformed("size is not")],
    ["a negative size", { ...parsed, layers: [{ ...parsed.layers[0], size: -1 }] }, malformed("size is not")],
    ["no layers", { ...parsed, layers: [] }, malformed("it has no layers")],
    [
      "more layers than overlayfs supports",
      { ...parsed, layers: Array(501).fill(parsed.layers[0]) },
      malformed("it has 501 layers, more than 500"),
    ],
    [
      "more layers than in the config",
      { ...parsed, layers: Array(2).fill(parsed.layers[0]) },
      malformed("it has 2 layers and its config 1 diff ids"),
    ],
    [
      "an encrypted layer",
      { ...parsed, layers: [{ ...parsed.layers[0], mediaType: `${parsed.layers[0].mediaType}+encrypted` }] },
      { code: "Unimplemented" },
    ],
    [
      "not an image",
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
    await expectCleanFailure(it(), `${served.address}/odd:1`, error);
  });

  test("a manifest that is announced as an index", async () => {
    const served = await serve();
    served.addManifest("1", image.manifest, "application/vnd.oci.image.index.v1+json");
    await expectCleanFailure(it(), `${served.address}/odd:1`, { name: "malformed" });
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
    await expectCleanFailure(it(), `${served.address}/huge:announced`, { code: "ResourceExhausted" });
    await expectCleanFailure(it(), `${served.address}/huge:endless`, { code: "ResourceExhausted" });
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024);
  });

  test("a config with a different size than in the manifest", async () => {
    const served = await serve();
    served.add(image, "good");
    const config = { ...parsed.config, size: image.config.length - 1 };
    served.addManifest("1", Buffer.from(JSON.stringify({ ...parsed, config })), image.manifestType);
    await expectCleanFailure(it(), `${served.address}/odd:1`, { name: "sizeMismatch" });
  });

  test("a config that is announced larger than the limit is not fetched", async () => {
    const served = await serve();
    const config = { ...parsed.config, size: 1 << 30 };
    served.addManifest("1", Buffer.from(JSON.stringify({ ...parsed, config })), image.manifestType);
    await expectCleanFailure(it(), `${served.address}/huge:1`, { code: "ResourceExhausted" });
    expect(served.seen("/blobs/")).toEqual([]);
  });
});
