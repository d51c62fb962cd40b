// Which plugin files are known, each as it is now.

import { copyFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makerOf } from "./maker.ts";
import { debianPlugins, eventually, openLab } from "./testing/lab.ts";

const ownPlugins = join(import.meta.dirname, "../native/build/cni");

test("only the field's own plugins and ours are known, each as its file is now", async () => {
  await using lab = await openLab();
  const at = (name: string) => join(lab.binDir, name);
  await copyFile(join(debianPlugins, "portmap"), at("field"));
  await copyFile(join(ownPlugins, "portmap"), at("ours"));
  await copyFile("/bin/true", at("other"));
  await writeFile(at("script"), "#!/bin/sh\n# path\tgithub.com/containernetworking/plugins/plugins/main/bridge\n");
  // The mark across the border of two pieces that are read.
  const mark = "path\tgithub.com/containernetworking/plugins/plugins/main/x";
  for (const name of ["border", "script-border"]) {
    const bytes = Buffer.alloc(300 << 10);
    bytes.write(name === "border" ? "\x7fELF" : "#!/bin/sh\n", "latin1");
    bytes.write(mark, (128 << 10) - 20);
    await writeFile(at(name), bytes);
  }
  const names = ["field", "ours", "border", "other", "script", "script-border", "missing"];
  const known = () =>
    names.flatMap((name) => (makerOf(at(name)) === undefined ? [] : [`${name}: ${makerOf(at(name))}`]));
  expect(known()).toEqual([]);
  await eventually("they are looked into", () => known().length >= 3);
  expect(known()).toEqual(["field: cni-project", "ours: keelson", "border: cni-project"]);

  await rename(at("other"), at("field"));
  expect(makerOf(at("field"))).toBeUndefined();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(makerOf(at("field"))).toBeUndefined();
});
