// A layer that tries to get out of its directory stays in it or is refused, and the host is not changed: names, links
// and attributes.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type TarEntry, tar } from "./testing/tar.ts";
import { builds, isPlain, makeWorkbench, refused, type Workbench } from "./testing/workbench.ts";

describe.each(builds)("keelson-unpack against hostile layers, $build build", ({ build, binary }) => {
  let bench: Workbench;
  let before: string[];
  beforeEach(() => {
    bench = makeWorkbench(binary);
    before = bench.hostState();
  });
  afterEach(() => {
    expect(bench.hostState()).toEqual(before);
    bench.remove();
  });

  describe("names", () => {
    test.each(["../host/victim", "a/../../host/victim", "/../host/victim", "..", "a/.."])("refuses %s", (name) => {
      const answer = bench.unpack(tar({ name: "first" }, { name, content: "evil" }), "layer");
      expect(answer).toMatchObject(refused(/^entry ".*": check the entry's name: it has a `\.\.` component/));
      expect(readdirSync(bench.path("layer"))).toEqual(["first"]);
    });

    test("takes absolute names as relative to the layer", () => {
      const name = `${bench.host}/victim`;
      expect(bench.unpack(tar({ name, content: "evil" }), "layer").exitCode).toBe(0);
      expect(readFileSync(bench.path("layer", name), "utf8")).toBe("evil");
    });

    test("refuses names that contain NUL bytes, are empty, too deep or too long", () => {
      const named = (path: string) => bench.unpack(tar({ name: "x", pax: { path } }), `layer-${path.length}`);
      expect(named("a\0b")).toMatchObject(refused("the name contains a NUL byte"));
      expect(bench.unpack(tar({ name: "" }), "empty")).toMatchObject(refused("the name is empty"));
      expect(named("d/".repeat(256))).toMatchObject({ exitCode: 0 });
      expect(named("d/".repeat(257))).toMatchObject(refused("it is deeper than 256 components", "limit"));
      expect(named(`${"n".repeat(200)}/`.repeat(21))).toMatchObject(refused("it is longer than 4095 bytes", "limit"));
      expect(named("n".repeat(256))).toMatchObject(refused("a component is longer than 255 bytes", "limit"));
    });

    test("truncates long names and escapes control characters in messages", () => {
      const { output } = bench.unpack(
        tar({ name: "x", pax: { path: `\u001b[31m\n${"y".repeat(3000)}/../z` } }),
        "layer",
      );
      expect(output.object).toMatch(/^entry "\\x1b\[31m\\x0ay{190,200}…"$/);
    });
  });

  describe("links", () => {
    /** Ways to name the host's directory from inside the layer. */
    const ways = () => [
      bench.host,
      "../host",
      "../../../../../../../../../..".concat(bench.host),
      "/proc/self/cwd/../host",
    ];

    test("to the host lead into the layer, even when written through", () => {
      for (const [index, target] of ways().entries()) {
        const layer = `layer-${index}`;
        const entries: TarEntry[] = [
          { name: "out", type: "2", link: target },
          { name: "out/victim", content: "evil", mode: 0o777, uid: 1 },
          { name: "out/etc/", type: "5", mode: 0o777 },
          { name: "out/etc/passwd", content: "evil" },
          { name: "out/.wh.victim2" },
          { name: "out/new", type: "2", link: "/" },
        ];
        expect(bench.unpack(tar(...entries), layer)).toMatchObject({ exitCode: 0 });
        expect(readlinkSync(bench.path(layer, "out"))).toBe(target);
      }
    });

    test("as the last component are replaced, never followed: files, modes, directories, whiteouts (CVE-2021-32760)", () => {
      const link: TarEntry = { name: "x", type: "2", link: `${bench.host}/victim` };
      const toDirectory: TarEntry = { name: "x", type: "2", link: `${bench.host}/etc` };
      const entries: TarEntry[] = [
        link,
        { name: "x", content: "evil", mode: 0o4777, uid: 1 },
        link,
        { name: "x", type: "1", link: "x" },
        toDirectory,
        { name: "x/", type: "5", mode: 0o777, uid: 7, pax: { "SCHILY.xattr.user.evil": "1", mtime: "1" } },
        toDirectory,
        { name: ".wh.x" },
        { name: "x", type: "3", device: [1, 5], mode: 0o666, uid: 7 },
        link,
        { name: "x", type: "6", mode: 0o777 },
      ];
      expect(bench.unpack(tar(...entries), "layer")).toMatchObject({ exitCode: 0 });
      expect(lstatSync(bench.path("layer/x")).isFIFO()).toBe(true);
    });

    test("hard, to files that are outside or missing, are refused", () => {
      for (const [index, target] of [...ways(), "etc/passwd", "/etc/passwd", ".", ""].entries()) {
        const link = `${target}/victim`;
        const answer = bench.unpack(
          tar({ name: "x", type: "1", link: "y", pax: { linkpath: link } }),
          `layer-${index}`,
        );
        expect(answer).toMatchObject(refused(/the target is not in this layer|`\.\.` component/));
      }
      const through = [
        { name: "d", type: "2", link: bench.host },
        { name: "x", type: "1", link: "d/victim" },
      ];
      expect(bench.unpack(tar(...through), "through")).toMatchObject(refused("the target is not in this layer"));
      const removed = [{ name: ".wh.y" }, { name: "x", type: "1", link: "y" }];
      expect(bench.unpack(tar(...removed), "removed")).toMatchObject(refused("the target is not in this layer"));
      const directory = [{ name: "d/f" }, { name: "x", type: "1", link: "d" }];
      expect(bench.unpack(tar(...directory), "directory")).toMatchObject(refused("the target is a directory"));
    });

    test("hard, to a symbolic link, link to that link and not to its target", () => {
      const entries = [
        { name: "s", type: "2", link: `${bench.host}/victim` },
        { name: "h", type: "1", link: "s" },
        { name: "h", content: "evil" },
      ];
      expect(bench.unpack(tar(...entries), "layer")).toMatchObject({ exitCode: 0 });
      expect(readlinkSync(bench.path("layer/s"))).toBe(`${bench.host}/victim`);
    });

    test("in a loop, a file in place of a directory, and a link without target are errors", () => {
      const circle = [{ name: "a", type: "2", link: "b" }, { name: "b", type: "2", link: "a" }, { name: "a/f" }];
      expect(bench.unpack(tar(...circle), "circle")).toMatchObject(refused("it leads through too many symbolic links"));
      expect(bench.unpack(tar({ name: "a" }, { name: "a/f" }), "file")).toMatchObject(refused("it is not a directory"));
      const empty = bench.unpack(tar({ name: "a", type: "2", link: "" }), "empty");
      expect(empty).toMatchObject(refused("its target is empty"));
    });

    test("to a directory that is still missing are followed through a bounded number of components", () => {
      const links = (count: number) => [
        { name: "d/", type: "5" },
        { name: "a", type: "2", link: "a", pax: { linkpath: `${"d/../".repeat(count)}d` } },
        { name: "a/new/f" },
      ];
      expect(bench.unpack(tar(...links(500)), "few")).toMatchObject({ exitCode: 0 });
      expect(lstatSync(bench.path("few/d/new/f")).isFile()).toBe(true);
      const answer = bench.unpack(tar(...links(600)), "many");
      expect(answer).toMatchObject(refused("links lead through more than 1024 components", "limit"));
    });

    test("swapped during unpacking never lead outside (CVE-2025-47290)", async () => {
      // Swaps a and b of the layer for links to the host and back, as fast as it can; reports when it first did.
      const swapper = `
import os, sys
layer, host = sys.argv[1], sys.argv[2]
swaps, parent = 0, os.getppid()
while os.getppid() == parent:
    for name in (f"{layer}/a", f"{layer}/b"):
        try:
            os.rename(name, f"{name}-away")
            os.symlink(host, name)
            swaps += 1
            os.unlink(name)
            os.rename(f"{name}-away", name)
        except OSError:
            pass
    if swaps == 2:
        print("swapped", flush=True)
`;
      const entries = Array.from({ length: isPlain(build) ? 1000 : 500 }, (_, i): TarEntry[] => [
        { name: `a/etc/file-${i}`, content: "evil", mode: 0o777 },
        { name: "b/", type: "5", mode: 0o777 },
        { name: "b/victim", type: i % 2 === 0 ? "0" : "6", mode: 0o777, uid: 1 },
      ]).flat();
      const bytes = tar(...entries);
      let swapped = 0;
      for (let attempt = 0; attempt < 8; attempt++) {
        const layer = bench.path(`layer-${attempt}`);
        mkdirSync(layer);
        const words = ["--directory", layer, "--max-bytes", "1000000000", "--max-inodes", "1000000"];
        const child = spawn(binary, words, { stdio: ["pipe", "ignore", "inherit"] });
        child.stdin.on("error", () => undefined);
        // Half of the layer first, so that there is something to swap before the rest arrives.
        child.stdin.write(bytes.subarray(0, bytes.length / 2));
        const flipping = spawn("python3", ["-c", swapper, layer, bench.host], { stdio: ["ignore", "pipe", "ignore"] });
        try {
          await Promise.race([once(flipping.stdout, "data").then(() => swapped++), once(child, "close")]);
          child.stdin.end(bytes.subarray(bytes.length / 2));
          if (child.exitCode === null) await once(child, "close");
          // Any outcome is fine, as long as afterEach finds the host untouched; most fail at a swap.
          expect([0, 1]).toContain(child.exitCode);
        } finally {
          flipping.kill("SIGKILL");
          await once(flipping, "close");
        }
      }
      expect(swapped).toBeGreaterThan(0);
    });

    test("of two concurrent layers to each other change neither", async () => {
      const run = async (own: string, other: string) => {
        mkdirSync(bench.path(own));
        const entries = Array.from({ length: 500 }, (_, i): TarEntry[] => [
          { name: "x", type: "2", link: i % 2 === 0 ? bench.path(other) : `../${other}` },
          { name: `x/from-${own}-${i}`, content: own },
        ]).flat();
        const words = ["--directory", bench.path(own), "--max-bytes", "100000000", "--max-inodes", "10000"];
        const child = spawn(binary, words, { stdio: ["pipe", "ignore", "ignore"] });
        child.stdin.end(tar(...entries));
        const [code] = await once(child, "close");
        expect(code).toBe(0);
      };
      await Promise.all([run("one", "two"), run("two", "one")]);
      for (const [own, other] of [["one", "two"] as const, ["two", "one"] as const]) {
        const names = bench.tree(own).map((line): string => JSON.parse(line).path);
        expect(names.filter((name) => name.includes(`from-${other}`))).toEqual([]);
        expect(names.filter((name) => name.includes(`from-${own}`))).toHaveLength(500);
      }
    });
  });

  describe("attributes", () => {
    test("of overlayfs and for the host are not taken from the archive", () => {
      const pax = {
        "SCHILY.xattr.trusted.overlay.redirect": "/host",
        "SCHILY.xattr.trusted.overlay.metacopy": "",
        "SCHILY.xattr.trusted.anything": "x",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.user.kept": "k",
      };
      const entries = [
        { name: "d/", type: "5", pax },
        { name: "f", pax },
        { name: "p", type: "6", pax },
      ];
      expect(bench.unpack(tar(...entries), "layer")).toMatchObject({ exitCode: 0 });
      const xattrs = bench.tree("layer").map((line) => JSON.parse(line).xattrs);
      expect(xattrs).toEqual([{}, { "user.kept": "6b" }, { "user.kept": "6b" }, {}]);
    });

    test("that the file system does not support are skipped, and the others kept", () => {
      const pax = {
        "SCHILY.xattr.com.apple.provenance": "\x01\x02\0",
        "SCHILY.xattr.system.nfs4_acl": "x",
        "SCHILY.xattr.user.kept": "k",
      };
      const kinds = [
        { name: "d/", type: "5" },
        { name: "f" },
        { name: "l", type: "2", link: "f" },
        { name: "p", type: "6" },
      ];
      const entries = kinds.map((kind) => ({ ...kind, pax }));
      expect(bench.unpack(tar(...entries), "layer")).toMatchObject({ exitCode: 0 });
      const xattrs = bench.tree("layer").map((line) => JSON.parse(line).xattrs);
      expect(xattrs).toEqual([{}, { "user.kept": "6b" }, { "user.kept": "6b" }, {}, {}]);
    });

    test("that the kernel refuses are named in the error", () => {
      const wrong = tar({ name: "f", pax: { "SCHILY.xattr.security.capability": "nonsense" } });
      const answer = bench.unpack(wrong, "layer");
      expect(answer).toMatchObject(refused(/^entry "f": set the attribute "security.capability": Invalid/, "system"));
    });

    test("setuid survives the change of owner, because it is set after it", () => {
      expect(bench.unpack(tar({ name: "su", mode: 0o6755, uid: 33, gid: 33 }), "layer").exitCode).toBe(0);
      expect(JSON.parse(bench.tree("layer")[1] ?? "")).toMatchObject({ mode: "0o6755", owner: [33, 33] });
    });

    test("a character device 0:0, overlayfs's whiteout, is refused", () => {
      const answer = bench.unpack(tar({ name: "etc", type: "3", device: [0, 0] }), "layer");
      expect(answer).toMatchObject(refused("0:0 is overlayfs's marker"));
    });
  });
});
