// Whiteouts of a layer are converted to overlayfs's form, or refused.

import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type TarEntry, tar } from "./testing/tar.ts";
import { builds, makeWorkbench, type Workbench } from "./testing/workbench.ts";

describe.each(builds)("keelson-unpack's whiteouts, $build build", ({ binary }) => {
  let bench: Workbench;
  beforeEach(() => {
    bench = makeWorkbench(binary);
  });
  afterEach(() => bench.remove());

  const base: TarEntry[] = [
    { name: "gone", content: "x" },
    { name: "kept", content: "x" },
    { name: "dir/a", content: "x" },
    { name: "dir/b", content: "x" },
    { name: "opaque/a", content: "x" },
    { name: "opaque/b/c", content: "x" },
    { name: "again/old", content: "x" },
    { name: "after/old", content: "x" },
    { name: "implied/old", content: "x" },
  ];

  test("hide exactly the files that they name, in a real overlay mount", () => {
    bench.unpacked("base", ...base);
    const upper = bench.unpacked(
      "upper",
      { name: ".wh.gone" },
      { name: "dir/.wh.b" },
      { name: "opaque/", type: "5", mode: 0o755 },
      { name: "opaque/new", content: "n" },
      { name: "opaque/.wh..wh..opq" },
      { name: "opaque/newer", content: "n" },
      // removed and created again in one layer, in either order: what was below stays hidden.
      { name: ".wh.again" },
      { name: "again/", type: "5", mode: 0o755 },
      { name: "again/new", content: "n" },
      { name: "after/new", content: "n" },
      { name: ".wh.after" },
      { name: ".wh.implied" },
      { name: "implied/new", content: "n" },
      { name: ".wh.never-was" },
    );
    expect(upper.get("gone")).toMatchObject({ type: "char", device: [0, 0] });
    expect(upper.get("opaque")).toMatchObject({ xattrs: { "trusted.overlay.opaque": "79" } });
    expect(overlay(bench, ["upper", "base"])).toEqual(
      ["after/new", "again/new", "dir/a", "implied/new", "kept", "opaque/new", "opaque/newer"].sort(),
    );
  });

  test("keep files of the same layer with that name", () => {
    const made = bench.unpacked(
      "layer",
      { name: "x", content: "x" },
      { name: ".wh.x" },
      { name: ".wh.y" },
      { name: "y" },
    );
    expect(made.get("x")).toMatchObject({ type: "file" });
    expect(made.get("y")).toMatchObject({ type: "file" });
  });

  test("of AUFS's bookkeeping at the root are skipped", () => {
    const made = bench.unpacked(
      "layer",
      { name: ".wh..wh.aufs" },
      { name: ".wh..wh.plnk/", type: "5" },
      { name: ".wh..wh.plnk/1.2", content: "x" },
    );
    expect([...made.keys()]).toEqual(["."]);
  });

  test.each([".wh.", ".wh..", ".wh...", "a/.wh..", ".wh..wh.x/../y", "a/.wh.b/c", "a/.wh..wh.b", ".wh.x/.wh.y"])(
    "refuses the name %s",
    (name) => {
      const answer = bench.unpack(tar({ name, content: "" }), "layer");
      expect(answer).toMatchObject({ exitCode: 1, output: { kind: "invalid", object: `entry "${name}"` } });
      expect(readdirSync(bench.path("layer"))).toEqual([]);
    },
  );

  test("refuses an opaque root, because overlayfs would still show the layers below", () => {
    bench.unpacked("base", ...base);
    mkdirSync(bench.path("marked"));
    const mark = "import os, sys; os.setxattr(sys.argv[1], 'trusted.overlay.opaque', b'y')";
    execFileSync("python3", ["-c", mark, bench.path("marked")]);
    expect(overlay(bench, ["marked", "base"])).toContain("kept");
    const answer = bench.unpack(tar({ name: ".wh..wh..opq" }), "layer");
    expect(answer).toMatchObject({ exitCode: 1, output: { kind: "invalid", step: "read the whiteout" } });
  });
});

/** The files that a read-only overlay of `layers` (top first) shows. */
function overlay(bench: Workbench, layers: readonly string[]): string[] {
  const merged = bench.path("merged");
  mkdirSync(merged);
  const lower = layers.map((layer) => bench.path(layer)).join(":");
  execFileSync("mount", ["-t", "overlay", "overlay", "-o", `ro,lowerdir=${lower}`, merged]);
  try {
    const names = readdirSync(merged, { recursive: true, encoding: "utf8" });
    return names.filter((name) => lstatSync(`${merged}/${name}`).isFile()).sort();
  } finally {
    execFileSync("umount", [merged]);
  }
}
