// Roots of many layers passed in one page of mount options, as kernels before 6.7 need it; every kernel accepts that.

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { builds } from "./setup-pod.ts";

describe.each(builds)("layers in one page, $build build", ({ program }) => {
  let bundle: string;
  let root: string;
  beforeEach(() => {
    bundle = mkdtempSync(join(tmpdir(), "keelson-layers-"));
    root = join(bundle, "rootfs");
    for (const name of ["rootfs", "upper", "work"]) mkdirSync(join(bundle, name));
  });
  afterEach(() => {
    spawnSync("umount", [root]);
    rmSync(bundle, { recursive: true });
  });

  /** Layer directories with names as long as in an image store, top first. */
  function makeLayers(count: number): string[] {
    return Array.from({ length: count }, (_, at) => {
      const layer = join(bundle, `${at}`.padStart(64, "0"), "root");
      mkdirSync(layer, { recursive: true });
      writeFileSync(join(layer, "top"), `of ${at}`);
      writeFileSync(join(layer, `own-${at}`), "");
      return layer;
    });
  }

  function mountRoot(lower: readonly string[], writable: { readonly upper: string; readonly work: string } | object) {
    writeFileSync(join(bundle, "rootfs.json"), JSON.stringify({ lower, ...writable }));
    const { status, output } = spawnSync(program, ["page-rootfs", bundle], {
      stdio: ["ignore", "pipe", "pipe", "pipe"],
      encoding: "utf8",
    });
    return { status, news: output[3] ?? "" };
  }

  // Docker allows 127 layers for an image, overlayfs 500.
  test.each([127, 500])("%i layers become one writable root", (count) => {
    const upper = join(bundle, "upper");
    expect(mountRoot(makeLayers(count), { upper, work: join(bundle, "work") })).toEqual({ status: 0, news: "" });
    expect(readFileSync(join(root, "top"), "utf8")).toBe("of 0");
    for (const at of [0, 1, count - 2, count - 1]) expect(existsSync(join(root, `own-${at}`))).toBe(true);
    writeFileSync(join(root, "top"), "written");
    expect(readFileSync(join(upper, "top"), "utf8")).toBe("written");
    expect(execFileSync("findmnt", ["--noheadings", "--output", "OPTIONS", root], { encoding: "utf8" })).toContain(
      "volatile",
    );
  });

  test("a root without a writable layer can have as many layers", () => {
    expect(mountRoot(makeLayers(127), {})).toEqual({ status: 0, news: "" });
    expect(existsSync(join(root, "own-126"))).toBe(true);
    expect(() => writeFileSync(join(root, "top"), "")).toThrow("EROFS");
  });

  test("a root whose layer is on a full file system is refused: overlayfs would make it read-only", () => {
    const full = join(bundle, "full");
    mkdirSync(full);
    execFileSync("mount", ["-t", "tmpfs", "-o", "nr_inodes=3", "none", full]);
    try {
      const [upper, work] = [join(full, "upper"), join(full, "work")];
      for (const directory of [upper, work]) mkdirSync(directory);
      const { status, news } = mountRoot(makeLayers(2), { upper, work });
      expect(status).toBe(1);
      expect(news).toContain(`mount the root filesystem ${work}: No space left on device`);
    } finally {
      spawnSync("umount", [root]);
      execFileSync("umount", [full]);
    }
  });

  test("more layers than overlayfs supports are refused, and so is a path too long for the page", () => {
    const layers = makeLayers(2);
    const many = Array.from({ length: 501 }, (_, at) => layers[at % 2] ?? "");
    expect(mountRoot(many, {})).toMatchObject({
      status: 1,
      news: expect.stringContaining("overlayfs supports at most 500"),
    });
    const long = `/${"directory/".repeat(300)}`;
    const { news } = mountRoot(layers, { upper: `${long}upper`, work: `${long}work` });
    expect(news).toContain("with one page of options: Argument list too long");
  });

  test("the error for a missing layer names it", () => {
    const { status, news } = mountRoot([...makeLayers(1), "/no/such/layer"], {});
    expect(status).toBe(1);
    expect(news).toContain("mount the root filesystem /no/such/layer: No such file or directory");
  });
});
