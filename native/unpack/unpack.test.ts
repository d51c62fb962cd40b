// keelson-unpack unpacks ordinary layers as GNU tar does: reading tar, creating and replacing files, the report and the
// arguments. Whiteouts are in whiteouts.test.ts.

import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { paxRecords, type TarEntry, tar } from "./testing/tar.ts";
import { builds, inodes, makeSourceTree, makeWorkbench, treeOf, type Workbench } from "./testing/workbench.ts";

function sha256(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

let directory: string;
let source: string;
beforeAll(() => {
  directory = mkdtempSync(path.join(tmpdir(), "keelson-unpack-source-"));
  source = path.join(directory, "source");
  makeSourceTree(source);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe.each(builds)("keelson-unpack, $build build", ({ binary }) => {
  let bench: Workbench;
  beforeEach(() => {
    bench = makeWorkbench(binary);
  });
  afterEach(() => bench.remove());

  const unpacked = (layer: string, ...entries: TarEntry[]) => bench.unpacked(layer, ...entries);

  describe("of a tree with one of everything", () => {
    const writers = {
      "GNU tar, PAX": ["--format=posix", "--xattrs", "--xattrs-include=*"],
      "GNU tar, GNU format": ["--format=gnu"],
      "GNU tar, PAX, names from the root": ["--format=posix", "--transform=s,^\\.,/,", "--absolute-names"],
    };
    test.each(Object.entries(writers))("creates the same files as tar: %s", (_, options) => {
      const archive = bench.path("layer.tar");
      execFileSync("tar", [...options, "--numeric-owner", "-C", source, "-cf", archive, "."]);
      mkdirSync(bench.path("expected"));
      const extract = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-xpf", archive];
      execFileSync("tar", ["-C", bench.path("expected"), ...extract], { stdio: "pipe" });
      const bytes = readFileSync(archive);
      const answer = bench.unpack(bytes, "layer");
      expect(answer).toMatchObject({ exitCode: 0, stderr: "" });
      expect(bench.tree("layer")).toEqual(bench.tree("expected"));
      expect(bench.tree("layer").length).toBeGreaterThan(40);
    });

    test.each([
      ["GNU", ["--format=gnu"]],
      ["PAX 0.0", ["--format=posix", "--sparse-version=0.0"]],
      ["PAX 0.1", ["--format=posix", "--sparse-version=0.1"]],
      ["PAX 1.0", ["--format=posix", "--sparse-version=1.0"]],
    ])("creates sparse files from GNU tar's format %s", (_, options) => {
      const holes = bench.path("holes");
      mkdirSync(holes);
      const block = 65_536;
      const pieces: Record<string, readonly number[]> = {
        start: [0],
        middle: [9],
        four: [1, 3, 5, 7],
        five: [1, 3, 5, 7, 9],
        many: Array.from({ length: 60 }, (_each, index) => 2 * index),
        none: [],
        ["long-".repeat(40)]: [3, 4],
      };
      for (const [name, places] of Object.entries(pieces)) {
        const file = openSync(path.join(holes, name), "w");
        for (const place of places)
          writeSync(file, Buffer.alloc(block - 1000, `${place} `), 0, block - 1000, place * block);
        ftruncateSync(file, 200 * block);
        closeSync(file);
      }
      writeFileSync(path.join(holes, "whole"), "no hole");
      // GNU's own format has no nanoseconds.
      for (const name of ["", ...readdirSync(holes)]) utimesSync(path.join(holes, name), 1_600_000_000, 1_600_000_000);
      execFileSync("tar", ["--sparse", ...options, "-C", holes, "-cf", bench.path("holes.tar"), "."]);
      const archive = readFileSync(bench.path("holes.tar"));
      expect(archive.length).toBeLessThan(100 * block);
      const { exitCode, output } = bench.unpack(archive, "layer");
      expect({ exitCode, output }).toMatchObject({ exitCode: 0, output: { diff_id: sha256(archive) } });
      expect(bench.tree("layer")).toEqual(bench.tree("holes"));
      for (const name of Object.keys(pieces)) {
        expect(lstatSync(bench.path("layer", name)).blocks).toBeLessThanOrEqual(
          lstatSync(path.join(holes, name)).blocks,
        );
      }
    });

    test("restores what Python's tarfile packed, nanoseconds and attributes included", () => {
      const script = `
import os, sys, tarfile
def attributes(member):
    path = os.path.join(sys.argv[1], member.name)
    for key in os.listxattr(path, follow_symlinks=False):
        value = os.getxattr(path, key, follow_symlinks=False)
        member.pax_headers["SCHILY.xattr." + key] = value.decode("utf-8", "surrogateescape")
    member.mtime = os.lstat(path).st_mtime_ns / 10**9
    nanoseconds = os.lstat(path).st_mtime_ns
    sign = "-" if nanoseconds < 0 else ""
    member.pax_headers["mtime"] = sign + "%d.%09d" % divmod(abs(nanoseconds), 10**9)
    return member
with tarfile.open(sys.argv[2], "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
    archive.add(sys.argv[1], ".", filter=attributes)
`;
      execFileSync("python3", ["-c", script, source, bench.path("layer.tar")]);
      expect(bench.unpack(readFileSync(bench.path("layer.tar")), "layer")).toMatchObject({ exitCode: 0 });
      expect(bench.tree("layer")).toEqual(treeOf(source));
    });

    test.each([
      ["gzip", gzipSync],
      ["zstd", zstdCompressSync],
      ["plain", (bytes: Buffer) => bytes],
    ])("reports digests, sizes and counts: %s", (_, compress) => {
      const plain = execFileSync("tar", ["-C", source, "-cf", "-", "."], { maxBuffer: 1e8 });
      const fed = compress(plain);
      const answer = bench.unpack(fed, "layer", { blob: bench.path("blob") });
      const files = [...inodes(source).values()].flatMap((inode) => inode.content ?? []);
      const linked = statSync(path.join(source, "bin/sh")).size;
      const content = files.filter((part) => typeof part === "number").reduce((sum, size) => sum + size, 0) - linked;
      expect(answer.output).toEqual({
        digest: sha256(fed),
        size: String(fed.length),
        diff_id: sha256(plain),
        unpacked_bytes: String(content),
        inodes: String(treeOf(source).length - 1),
      });
      expect(readFileSync(bench.path("blob")).equals(fed)).toBe(true);
      expect(statSync(bench.path("blob")).mode & 0o777).toBe(0o600);
    });
  });

  test("creates missing parents with mode 0755, owned by root", () => {
    const made = unpacked("layer", { name: "a/b/c", content: "x", uid: 5, mode: 0o600 });
    expect(made.get("a")).toMatchObject({ type: "dir", mode: "0o755", owner: [0, 0] });
    expect(made.get("a/b")).toMatchObject({ type: "dir", mode: "0o755", owner: [0, 0] });
    expect(made.get("a/b/c")).toMatchObject({ type: "file", mode: "0o600", owner: [5, 0] });
  });

  test("sets each entry's own group and mode, also inside a setgid directory", () => {
    const made = unpacked(
      "layer",
      { name: "shared/", type: "5", mode: 0o2775, uid: 3, gid: 7 },
      { name: "shared/roots", content: "x", mode: 0o644 },
      { name: "shared/setgid", content: "x", mode: 0o2755, gid: 7 },
      { name: "shared/deeper/", type: "5", mode: 0o750 },
    );
    expect(made.get("shared")).toMatchObject({ mode: "0o2775", owner: [3, 7] });
    expect(made.get("shared/roots")).toMatchObject({ mode: "0o644", owner: [0, 0] });
    expect(made.get("shared/setgid")).toMatchObject({ mode: "0o2755", owner: [0, 7] });
    expect(made.get("shared/deeper")).toMatchObject({ mode: "0o750", owner: [0, 0] });
  });

  test("leaves the root its owner, mode and attributes, whatever its entry says", () => {
    const made = unpacked(
      "layer",
      { name: "./", type: "5", mode: 0o700, uid: 7, gid: 8, pax: { "SCHILY.xattr.user.of": "root" } },
      { name: "file", content: "x" },
    );
    expect(made.get(".")).toMatchObject({ mode: "0o755", owner: [0, 0], xattrs: {} });
  });

  test("sets directories' times after all files are created", () => {
    const made = unpacked(
      "layer",
      { name: "./", type: "5", mode: 0o755, mtime: 1 },
      { name: "d/", type: "5", mode: 0o755, pax: { mtime: "2.000000003" } },
      { name: "d/file", content: "x" },
      { name: "d/again", content: "x" },
    );
    expect(made.get(".")).toMatchObject({ mtime: "1000000000" });
    expect(made.get("d")).toMatchObject({ mtime: "2000000003" });
  });

  test("reads v7 archives, ustar's prefix, GNU's long names and base-256 numbers", () => {
    const base256 = (value: number, length: number) => {
      const bytes = Buffer.alloc(length);
      bytes.writeUIntBE(value, length - 6, 6);
      bytes[0] = 0x80;
      return bytes;
    };
    const long = `${"n".repeat(90)}/${"m".repeat(120)}`;
    const made = unpacked(
      "layer",
      { name: "old/", type: "\0", magic: "v7", mode: 0o700 },
      { name: "old/file", type: "\0", magic: "v7", content: "7" },
      { name: "inside", prefix: "a/prefix", content: "p" },
      { name: "gnu", magic: "gnu", prefix: "not/a/prefix", content: "g" },
      { name: "././@LongLink", type: "L", magic: "gnu", content: `${long}\0` },
      { name: "cut", magic: "gnu", content: "long" },
      { name: "././@LongLink", type: "K", magic: "gnu", content: `${"t".repeat(150)}\0` },
      { name: "link", type: "2", magic: "gnu", link: "cut" },
      {
        name: "ids",
        magic: "gnu",
        patches: [
          [108, base256(4_000_000_000, 8)],
          [116, base256(2_500_000, 8)],
        ],
      },
      { name: "time", patches: [[136, base256(8_589_934_592 + 5, 12)]] },
      { name: "past", patches: [[136, Buffer.from("fffffffffffffffffffffffe", "hex")]] },
    );
    expect(made.get("old")).toMatchObject({ type: "dir", mode: "0o700" });
    expect(made.get("old/file")).toMatchObject({ type: "file" });
    expect(made.get("a/prefix/inside")).toMatchObject({ type: "file" });
    expect(made.get("gnu")).toMatchObject({ type: "file" });
    expect(made.get(long)).toMatchObject({ type: "file", content: [4, expect.anything()] });
    expect(made.get("link")).toMatchObject({ type: "link", target: "t".repeat(150) });
    expect(made.get("ids")).toMatchObject({ owner: [4_000_000_000, 2_500_000] });
    expect(made.get("time")).toMatchObject({ mtime: "8589934597000000000" });
    expect(made.get("past")).toMatchObject({ mtime: "-2000000000" });
  });

  test("applies local and global PAX records, local ones first, and ignores empty ones", () => {
    const made = unpacked(
      "layer",
      { name: "pax_global", type: "g", content: paxRecords({ uid: "1234", gid: "4321", comment: "hello" }) },
      { name: "global" },
      { name: "local", pax: { uid: "7", path: "renamed", mtime: "-1.25", atime: "5", "SCHILY.xattr.user.a=b": "" } },
      { name: "size", content: "12345", pax: { size: "5", path: "" }, patches: [[124, "00000000000\0"]] },
      { name: "after" },
    );
    expect(made.get("global")).toMatchObject({ owner: [1234, 4321] });
    expect(made.get("renamed")).toMatchObject({ owner: [7, 4321], mtime: "-1250000000" });
    expect(made.get("size")).toMatchObject({ content: [5, expect.anything()] });
    expect(made.get("after")).toMatchObject({ owner: [1234, 4321], xattrs: {} });
  });

  test("accepts archives without an end mark, with half of one, and empty ones", () => {
    const whole = tar({ name: "d/", type: "5", mode: 0o755 }, { name: "d/file", content: "x" });
    for (const missing of [512, 1024]) {
      const bytes = whole.subarray(0, -missing);
      for (const [form, fed] of Object.entries({
        plain: bytes,
        gzip: gzipSync(bytes),
        zstd: zstdCompressSync(bytes),
      })) {
        const layer = `${form}-${missing}`;
        expect(bench.unpack(fed, layer).output).toMatchObject({ diff_id: sha256(bytes), inodes: "2" });
        expect([...inodes(bench.path(layer)).keys()]).toEqual([".", "d", "d/file"]);
      }
    }
    for (const [form, fed] of Object.entries({
      plain: Buffer.alloc(0),
      gzip: gzipSync(""),
      zstd: zstdCompressSync(""),
    })) {
      expect(bench.unpack(fed, form).output).toMatchObject({ diff_id: sha256(Buffer.alloc(0)), inodes: "0" });
    }
  });

  test("hashes data after the end mark, too", () => {
    const bytes = Buffer.concat([tar({ name: "file", content: "x" }), Buffer.from("anything at all")]);
    expect(bench.unpack(bytes, "layer").output).toMatchObject({ diff_id: sha256(bytes), inodes: "1" });
  });

  describe("replaces an earlier entry", () => {
    const file: TarEntry = { name: "x", content: "file" };
    const directory: TarEntry = { name: "x/", type: "5", mode: 0o700 };
    const inner: TarEntry = { name: "x/y/z", content: "inner" };
    const link: TarEntry = { name: "x", type: "2", link: "elsewhere" };
    const other: TarEntry = { name: "elsewhere/kept", content: "kept" };

    test("a file by a directory, a directory with content by a file", () => {
      expect(unpacked("one", file, directory, inner).get("x/y/z")).toMatchObject({ type: "file" });
      expect([...unpacked("two", directory, inner, file).keys()]).toEqual([".", "x"]);
    });

    test("a directory by a link through which the next entry writes, and back", () => {
      const through = unpacked("one", other, directory, inner, link, { name: "x/new", content: "n" });
      expect([...through.keys()].sort()).toEqual([".", "elsewhere", "elsewhere/kept", "elsewhere/new", "x"]);
      const back = unpacked("two", other, link, directory, inner);
      expect([...back.keys()].sort()).toEqual([".", "elsewhere", "elsewhere/kept", "x", "x/y", "x/y/z"]);
    });

    test("a directory by the same directory: its attributes change, its content stays", () => {
      const made = unpacked("layer", directory, inner, { ...directory, mode: 0o751, uid: 9 });
      expect(made.get("x")).toMatchObject({ mode: "0o751", owner: [9, 0] });
      expect(made.has("x/y/z")).toBe(true);
    });

    test("a link by a file, without writing through it", () => {
      const made = unpacked("layer", other, { ...link, link: "elsewhere/kept" }, file);
      expect(made.get("x")).toMatchObject({ type: "file", content: [4, expect.anything()] });
      expect(readFileSync(bench.path("layer/elsewhere/kept"), "utf8")).toBe("kept");
    });

    test("a hard link to itself changes nothing; replacing a linked file does not change the other name", () => {
      const hard: TarEntry = { name: "h", type: "1", link: "x" };
      const made = unpacked("layer", file, hard, hard, { ...hard, name: "x" }, { name: "x", content: "changed" });
      expect(made.get("h")).toMatchObject({ content: [4, expect.anything()] });
      expect(made.get("x")).toMatchObject({ content: [7, expect.anything()] });
    });

    test("a tree deeper than the limits of descriptors and path length", () => {
      // 1040 levels below x, past 1024 descriptors and 4096 bytes; names reach them through links, 130 levels at a
      // time.
      const step = (count: number) => Array.from({ length: count }, () => "dddd").join("/");
      const hops = Array.from({ length: 8 }, (_, hop): TarEntry[] => [
        { name: `hop${hop}`, type: "2", link: "x", pax: { linkpath: hop === 0 ? "x" : `hop${hop - 1}/${step(130)}` } },
        ...Array.from({ length: 130 }, (__, depth): TarEntry => {
          return { name: "d", type: "5", pax: { path: `hop${hop}/${step(depth + 1)}` } };
        }),
      ]).flat();
      const made = unpacked("layer", directory, ...hops, file);
      const links = hops.flatMap(({ name, type }) => (type === "2" ? [name] : []));
      expect([...made.keys()].sort()).toEqual([".", "x", ...links].sort());
    });
  });

  test("follows links of this layer to directories that do not exist yet", () => {
    const made = unpacked(
      "layer",
      { name: "lib", type: "2", link: "usr/lib" },
      { name: "sbin", type: "2", link: "/usr/../../usr/sbin" },
      { name: "lib/a/libc.so", content: "x" },
      { name: "sbin/init", content: "x" },
    );
    expect([...made.keys()].sort()).toEqual(
      [".", "lib", "sbin", "usr", "usr/lib", "usr/lib/a", "usr/lib/a/libc.so", "usr/sbin", "usr/sbin/init"].sort(),
    );
  });

  describe("has a command line that", () => {
    test("prints help and version", () => {
      const help = spawnSync(binary, ["--help"]);
      expect([help.status, help.stdout.toString()]).toEqual([0, expect.stringContaining("--max-inodes N")]);
      const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
      expect(spawnSync(binary, ["--version"]).stdout.toString()).toBe(`keelson-unpack ${version}\n`);
    });

    test.each([
      [["--directory"], "no value"],
      [["--directory", "/x", "--max-bytes", "1"], "--max-inodes is missing"],
      [["--directory", "/x", "--max-bytes", "-1", "--max-inodes", "1"], "--max-bytes takes a number above zero"],
      [["--directory", "", "--max-bytes", "1", "--max-inodes", "1"], "--directory takes a path"],
      [["--sideways", "1"], "unknown option --sideways"],
    ])("refuses the arguments %j", (words, reason) => {
      const ran = spawnSync(binary, words);
      expect([ran.status, JSON.parse(ran.stdout.toString()).message]).toEqual([1, expect.stringContaining(reason)]);
    });

    test("refuses a directory that is missing, a link, or not empty, and a blob file that exists", () => {
      const archive = tar({ name: "x" });
      writeFileSync(bench.path("blob"), "precious");
      const taken = bench.unpack(archive, "one", { blob: bench.path("blob") });
      expect(taken).toMatchObject({ exitCode: 1, output: { kind: "exists", step: "create the blob file", errno: 17 } });
      expect(readFileSync(bench.path("blob"), "utf8")).toBe("precious");
      const limits = ["--max-bytes", "10000", "--max-inodes", "10"];
      const into = (directory: string) => spawnSync(binary, ["--directory", directory, ...limits], { input: archive });
      expect(JSON.parse(into(bench.host).stdout.toString())).toMatchObject({ kind: "exists", object: bench.host });
      expect(JSON.parse(into(bench.path("none")).stdout.toString())).toMatchObject({ kind: "system", errno: 2 });
    });
  });
});
