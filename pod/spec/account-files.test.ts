import { expect, test } from "vitest";
import type { LayerFile } from "../../native/index.ts";
import { AccountFiles } from "./account-files.ts";

function filesOf(content: (layer: string) => LayerFile) {
  const read: string[] = [];
  const files = new AccountFiles({
    readFromLayers: async ([layer = ""]) => {
      read.push(layer);
      return [content(layer)];
    },
  });
  return { read, of: (id: string) => files.of({ id, layers: [id] })(["/etc/passwd"], 100) };
}

const file = (length: number): LayerFile => ({ kind: "file", content: Buffer.alloc(length) });

test("an image's files are read once; those of the 64 most recently used images are kept", async () => {
  const { read, of } = filesOf(() => file(10));
  const ids = Array.from({ length: 64 }, (_, index) => `image ${index}`);
  for (const id of [...ids, ...ids, "another", "image 1", "image 0"]) expect(await of(id)).toEqual([file(10)]);
  expect(read).toEqual([...ids, "another", "image 0"]);
});

test("long and irregular files are read each time", async () => {
  const { read, of } = filesOf((layer) => (layer === "odd" ? { kind: "not-regular" } : file(20_000)));
  for (const id of ["odd", "long", "odd", "long"]) await of(id);
  expect(read).toEqual(["odd", "long", "odd", "long"]);
});
