// Which plugin files are recognized, judged by their current content.

import { copyFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makerOf } from "./maker.ts";
import { debianPlugins, eventually, openLab } from "./testing/lab.ts";

const ownPlugins = join(import.meta.dirname, "../native/build/cni");

test("only the reference plugins and Keelson's are recognized, by the current content of the file", async () => {
  await using lab = await openLab();
  const at = (name: string) => join(lab.binDir, name);
  await copyFile(join(debianPlugins, "portmap"), at("reference"));
  await copyFile(join(ownPlugins, "portmap"), at("ours"));
  await copyFile("/bin/true", at("other"));
  await writeFile(at("script"), "#!/bin/sh\n# path\tgithub.com/containernetworking/plugins/plugins/main/bridge\n");
  // The marker across the border of two chunks.
  const mark = "path\tgithub.com/containernetworking/plugins/plugins/main/x";
  for (const name of ["border", "script-border"]) {
    const bytes = Buffer.alloc(300 << 10);
    bytes.write(name === "border" ? "\x7fELF" : "#!/bin/sh\n", "latin1");
    bytes.write(mark, (128 << 10) - 20);
    await writeFile(at(name), bytes);
  }
  const names = ["reference", "ours", "border", "other", "script", "script-border", "missing"];
  const known = () =>
    names.flatMap((name) => (makerOf(at(name)) === undefined ? [] : [`${name}: ${makerOf(at(name))}`]));
  expect(known()).toEqual([]);
  await eventually("they are inspected", () => known().length >= 3);
  expect(known()).toEqual(["reference: cni-project", "ours: keelson", "border: cni-project"]);

  await rename(at("other"), at("reference"));
  expect(makerOf(at("reference"))).toBeUndefined();
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(makerOf(at("reference"))).toBeUndefined();
});
