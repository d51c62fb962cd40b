// Random stacks of layers: overlayfs shows the same tree as applying each layer in order.

import { execFileSync } from "node:child_process";
import { lstatSync, mkdtempSync, readdirSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { type TarEntry, tar } from "../native/unpack/testing/tar.ts";
import { makeImage, makeLayer } from "./testing/build-image.ts";
import { usePulls } from "./testing/pulls.ts";

const never = new AbortController().signal;
const { it, serve } = usePulls();
const rounds = 60;
const opaque = ".wh..wh..opq";

/** For each path: `d` or `f`, mode and owner. */
type Tree = Map<string, string>;
const unnamed = "d 755 0";

/** Pseudo-random numbers from 0 to below `end`, the same in each run. */
function dice(seed: number): (end: number) => number {
  let state = seed;
  return (end) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (state >> 8) % end;
  };
}

function above(name: string): readonly string[] {
  const parts = name.split("/");
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("/"));
}

/** A layer without duplicate entries and without entries below its own files. */
function randomLayer(roll: (end: number) => number): readonly TarEntry[] {
  const files = new Set<string>();
  const taken = new Set<string>();
  const entries: TarEntry[] = roll(5) === 0 ? [{ name: "./", type: "5", mode: 0o711, uid: 5 }] : [];
  for (let count = 1 + roll(8); count > 0; count--) {
    const name = Array.from({ length: 1 + roll(4) }, () => "abcd"[roll(4)]).join("/");
    const kind = roll(10);
    const isDirectory = kind >= 2 && kind < 6;
    if (above(name).some((each) => files.has(each)) || (isDirectory ? files : taken).has(name)) continue;
    if (kind < 2) entries.push({ name: path.join(path.dirname(name), `.wh.${path.basename(name)}`) });
    else if (kind < 3) entries.push({ name: `${name}/${opaque}` });
    else if (isDirectory)
      entries.push({ name: `${name}/`, type: "5", mode: [0o700, 0o1777, 0o755, 0o2750][roll(4)] ?? 0, uid: roll(3) });
    else entries.push({ name, mode: 0o600 + roll(64), uid: roll(3) });
    if (kind >= 6) files.add(name);
    if (kind >= 2) taken.add(name);
    for (const each of above(name)) taken.add(each);
  }
  return entries;
}

/** Whiteouts apply to the layers below, regardless of their position in the layer (OCI image-spec layer.md). */
function apply(tree: Tree, layer: readonly TarEntry[]): void {
  const removeBelow = (name: string) => {
    for (const each of [...tree.keys()]) if (each.startsWith(`${name}/`)) tree.delete(each);
  };
  const remove = (name: string) => {
    removeBelow(name);
    tree.delete(name);
  };
  const isWhiteout = (name: string) => path.basename(name).startsWith(".wh.");
  for (const { name } of layer) {
    if (path.basename(name) === opaque) removeBelow(path.dirname(name));
    else if (isWhiteout(name)) remove(path.join(path.dirname(name), path.basename(name).slice(".wh.".length)));
  }
  for (const { name, type, mode = 0, uid = 0 } of layer) {
    // The root's own entry is ignored.
    if (name === "./") continue;
    const place = name.replace(/\/$/, "");
    for (const each of above(place)) {
      if (tree.get(each)?.startsWith("d")) continue;
      remove(each);
      tree.set(each, unnamed);
    }
    if (isWhiteout(place)) continue;
    if (!(type === "5" && tree.get(place)?.startsWith("d"))) remove(place);
    tree.set(place, `${type === "5" ? "d" : "f"} ${mode.toString(8)} ${uid}`);
  }
}

function overlayOf(layers: readonly string[]): Tree {
  const mountpoint = mkdtempSync(path.join(tmpdir(), "keelson-mount-"));
  const options = `ro,lowerdir=${[...layers, mountpoint].join(":")}`;
  execFileSync("mount", ["-t", "overlay", "keelson-test", "-o", options, mountpoint]);
  try {
    const names = ["", ...readdirSync(mountpoint, { recursive: true, encoding: "utf8" })];
    return new Map(
      names.map((name) => {
        const status = lstatSync(path.join(mountpoint, name));
        return [name, `${status.isDirectory() ? "d" : "f"} ${(status.mode & 0o7777).toString(8)} ${status.uid}`];
      }),
    );
  } finally {
    execFileSync("umount", [mountpoint]);
    rmdirSync(mountpoint);
  }
}

test("look as if all layers had been applied to one tree", async () => {
  const registry = await serve();
  for (let round = 1; round <= rounds; round++) {
    const roll = dice(round);
    const layers = Array.from({ length: 2 + roll(4) }, () => randomLayer(roll));
    const wanted: Tree = new Map([["", unnamed]]);
    for (const layer of layers) apply(wanted, layer);
    registry.add(makeImage({ layers: layers.map((layer) => makeLayer(tar(...layer))) }), `${round}`);
    const image = await it().store.pull(`${registry.address}/app:${round}`, undefined, never);
    expect(new Map([...overlayOf(image.layers)].sort()), JSON.stringify(layers)).toEqual(new Map([...wanted].sort()));
  }
}, 60_000);
