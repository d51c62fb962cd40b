// Damaged, truncated and oversized layers are refused with a clear error, in bounded memory, disk space and time.
//
// These test the tar reader, the limits, and that a decoder's failure refuses the whole layer. The gzip and zstd bit
// streams are the libraries' job: codec.test.ts truncates and flips those, here a sample goes through the whole
// program.

import { spawnSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync } from "node:fs";
import { constants, gzipSync, zstdCompressSync } from "node:zlib";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { paxRecords, type TarEntry, tar, tarEntry } from "./testing/tar.ts";
import { builds, isPlain, makeWorkbench, refused, type Workbench } from "./testing/workbench.ts";

describe.each(builds)("keelson-unpack against damaged layers, $build build", ({ build, binary }) => {
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

  describe("headers", () => {
    const octal = (value: string) => Buffer.from(`${value}\0`);
    const cases: [string, TarEntry | Buffer, RegExp, string?][] = [
      ["a wrong checksum", { name: "x", checksumError: 1 }, /read the tar header: its checksum is wrong/],
      ["no digits in the size", { name: "x", patches: [[124, "12x45678901"]] }, /its size is not a number/],
      ["a negative size", { name: "x", patches: [[124, Buffer.alloc(12, 0xff)]] }, /its size is negative/],
      ["a size past 64 bits", { name: "x", patches: [[124, Buffer.alloc(12, 0xbf)]] }, /its size is not a number/],
      ["an owner of -1", { name: "x", pax: { uid: "4294967295" } }, /its owner 4294967295 is not a user id/],
      ["a negative group", { name: "x", pax: { gid: "-1" } }, /its group -1 is not a group id/],
      ["an owner past 64 bits", { name: "x", pax: { uid: "99999999999999999999" } }, /its uid is not a number/],
      ["a negative PAX size", { name: "x", pax: { size: "-5" } }, /its size is negative/],
      ["a PAX time in words", { name: "x", pax: { mtime: "noon" } }, /its mtime is not a time/],
      ["a device past 12 bits", { name: "x", type: "4", patches: [[329, octal("0010000")]] }, /device number is out/],
      ["an unknown type", { name: "x", type: "V" }, /entry "x": read the tar entry: its type "V" is not supported/],
      [
        "a slash and content",
        { name: "x/", content: tarEntry({ name: "inner" }) },
        /ends with a slash.* but it has content/,
      ],
      ["a root that is a file", { name: "./", type: "6" }, /it is the layer's root but not a directory/],
      ["a lone zero block", Buffer.concat([Buffer.alloc(512), tar({ name: "x" })]), /a single zero block/],
      ["no tar at all", Buffer.alloc(2048, "no tar "), /its checksum is wrong/],
      ["a PAX record without length", { name: "h", type: "x", content: "path=x\n" }, /a record has no length/],
      ["a PAX record too long", { name: "h", type: "x", content: "99 path=x\n" }, /a record's length is wrong/],
      ["a PAX record of length 0", { name: "h", type: "x", content: "0 path=x\n" }, /a record's length is wrong/],
      ["a PAX length past 64 bits", { name: "h", type: "x", content: `${"9".repeat(30)} a=b\n` }, /no length/],
      ["a PAX record without newline", { name: "h", type: "x", content: "9 path=xy" }, /a record's length is wrong/],
      ["a PAX record without key", { name: "h", type: "x", content: "5 =x\n" }, /a record has no key/],
    ];
    test.each(cases)("with %s are refused", (_, bytes, message, kind) => {
      const archive = Buffer.isBuffer(bytes) ? bytes : tar(bytes);
      expect(bench.unpack(archive, "layer")).toMatchObject(refused(message, kind));
    });

    test("of sparse files are refused past 1 MiB, in bounded memory (CVE-2025-58183)", () => {
      const map = Array.from({ length: 300_000 }, (_, i) => `${i}\n1\n`).join("");
      const blocks = Buffer.alloc(2 * 1024 * 1024, Buffer.concat([Buffer.from("0".repeat(504)), Buffer.alloc(8, 1)]));
      const sparse: Record<string, Buffer> = {
        old: Buffer.concat([tarEntry({ name: "x", type: "S", magic: "gnu", patches: [[482, "\x01"]] }), blocks]),
        "PAX 0.1": tar({ name: "x", pax: { "GNU.sparse.size": "1", "GNU.sparse.map": map.replaceAll("\n", ",") } }),
        "PAX 1.0, told": tar({ name: "x", content: `1000000000\n${map}`, pax: pax10 }),
        "PAX 1.0": tar({ name: "x", content: `300000\n${map}`, pax: pax10 }),
      };
      for (const [name, archive] of Object.entries(sparse)) {
        expect(bench.unpack(archive, name)).toMatchObject(refused("larger than 1 MiB", "limit"));
      }
    });

    const pax10 = { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "100" };
    const padded = (map: string) => map.padEnd(512, "\0");
    const maps: readonly [string, Omit<TarEntry, "name">, RegExp][] = [
      ["no size", { pax: { "GNU.sparse.map": "0,0" } }, /has no size/],
      ["a size that is not a number", { pax: { "GNU.sparse.size": "1x" } }, /something other than numbers/],
      ["a negative size", { pax: { "GNU.sparse.size": "-1" } }, /size is negative/],
      [
        "an offset without length",
        { pax: { "GNU.sparse.size": "9", "GNU.sparse.map": "0" } },
        /an offset has no length/,
      ],
      ["a length without offset", { pax: { "GNU.sparse.size": "9", "GNU.sparse.numbytes": "1" } }, /do not alternate/],
      ["an unknown format", { pax: { ...pax10, "GNU.sparse.major": "2" } }, /format is not supported/],
      ["an unknown key", { pax: { "GNU.sparse.colour": "red" } }, /format is not supported/],
      ["overlapping pieces", { content: `${padded("2\n5\n2\n6\n1\n")}abc`, pax: pax10 }, /overlaps another/],
      ["a piece past the end of the file", { content: `${padded("1\n99\n2\n")}ab`, pax: pax10 }, /exceeds the file/],
      [
        "a piece whose end is past 63 bits",
        { content: `${padded("1\n9223372036854775807\n9223372036854775807\n")}a`, pax: pax10 },
        /exceeds the file/,
      ],
      ["a negative offset", { content: `${padded("1\n-1\n1\n")}a`, pax: pax10 }, /a negative number/],
      [
        "fewer bytes than its pieces",
        { content: `${padded("1\n0\n2\n")}a`, pax: pax10 },
        /have 2 bytes and the archive has 1/,
      ],
      [
        "more bytes than its pieces",
        { content: `${padded("1\n0\n1\n")}ab`, pax: pax10 },
        /have 1 bytes and the archive has 2/,
      ],
      ["a map larger than the content", { content: "1\n0\n1\n", pax: pax10 }, /map is truncated/],
      ["an unterminated map", { content: "400\n".padEnd(512, "0\n"), pax: pax10 }, /map is truncated/],
      ["words in its map", { content: padded("1\nzero\n1\n"), pax: pax10 }, /something other than numbers/],
      ["a size that no file can have", { pax: { "GNU.sparse.size": "9223372036854775807" } }, /set the file's size/],
    ];
    test.each(maps)("of a sparse file with %s are refused", (_, entry, message) => {
      expect(bench.unpack(tar({ name: "x", ...entry }), "layer")).toMatchObject({
        exitCode: 1,
        stderr: "",
        output: { message: expect.stringMatching(message) },
      });
    });

    test("of sparse files are refused as global ones", () => {
      const global = { name: "h", type: "g", content: paxRecords({ "GNU.sparse.size": "9" }) };
      expect(bench.unpack(tar(global, { name: "x" }), "layer")).toMatchObject(refused("global PAX header describes"));
    });

    test("of PAX and long names are limited to 1 MiB, all global ones together to 16 KiB", () => {
      const big = Buffer.alloc(1024 * 1024 + 1, "n");
      for (const type of ["x", "g", "L", "K"]) {
        const answer = bench.unpack(tar({ name: "h", type, content: big }), `single-${type}`);
        expect(answer).toMatchObject(refused("larger than 1 MiB", "limit"));
      }
      const global = (key: string) => ({ name: "h", type: "g", content: paxRecords({ [key]: "v".repeat(10_000) }) });
      const many = [global("path"), global("linkpath"), { name: "x" }];
      expect(bench.unpack(tar(...many), "sum")).toMatchObject(refused("the global PAX headers are larger", "limit"));
    });

    test("with too many attributes for one entry are refused quickly, and so are global attributes", () => {
      const records = (count: number) =>
        Object.fromEntries(Array.from({ length: count }, (_, i) => [`SCHILY.xattr.user.${i}`, "v"]));
      expect(bench.unpack(tar({ name: "x", pax: records(20) }), "few")).toMatchObject({ exitCode: 0 });
      const start = performance.now();
      const answer = bench.unpack(tar({ name: "x", pax: records(30_000) }), "many");
      expect(answer).toMatchObject(refused("more than 256 attributes", "limit"));
      expect(performance.now() - start).toBeLessThan(3000);
      const global = { name: "h", type: "g", content: paxRecords(records(1)) };
      expect(bench.unpack(tar(global, { name: "x" }), "global")).toMatchObject(refused("attributes for all entries"));
    });
  });

  describe("truncated streams", () => {
    const entries: TarEntry[] = [
      { name: "d/", type: "5", mode: 0o755 },
      { name: "file", content: Buffer.alloc(3000, "x") },
      {
        name: "h",
        type: "x",
        content: paxRecords({ path: "p".repeat(120), "SCHILY.xattr.user.a": "b".repeat(600) }),
      },
      { name: "long", content: "y" },
      { name: "././@LongLink", type: "L", magic: "gnu", content: `${"n".repeat(240)}/${"n".repeat(240)}/x\0` },
      { name: "s", type: "2", link: "t" },
    ];
    const archive = tar(...entries);
    /** Offsets where a header may start: an archive that ends there only lacks its end mark. */
    const ends = new Set(entries.map((_, index) => Buffer.concat(entries.slice(0, index).map(tarEntry)).length));
    ends.add(archive.length - 1024).add(archive.length - 512);

    test("are refused if they end inside an entry, at and next to every block, plain or compressed", () => {
      const cuts = Array.from({ length: archive.length / 512 }, (_, i) => i * 512);
      const offsets = isPlain(build) ? [-1, 0, 1] : [0];
      const inside = (at: number) => at >= 0 && !ends.has(at);
      const beside = cuts.flatMap((at) => offsets.map((offset) => at + offset)).filter(inside);
      const cutAt = (at: number) => archive.subarray(0, at);
      const answers = bench.unpackEach([
        ...beside.map((cut) => [`plain-${cut}`, cutAt(cut)] as const),
        ...cuts.filter(inside).map((cut) => [`gzip-${cut}`, gzipSync(cutAt(cut))] as const),
        ...cuts.filter(inside).map((cut) => [`zstd-${cut}`, zstdCompressSync(cutAt(cut))] as const),
      ]);
      for (const answer of answers) expect(answer).toMatchObject(refused("it is truncated"));
    });

    const compressed: [string, Buffer][] = [
      ["gzip", gzipSync(archive)],
      ["zstd", zstdCompressSync(archive, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })],
    ];
    /** The offsets of headers and trailers, and some in the library's bit stream between them. */
    const sampleOf = (whole: Buffer) => {
      const edge = isPlain(build) ? 12 : 4;
      const between = Array.from({ length: 8 }, (_, i) => edge + Math.floor(((whole.length - 2 * edge) * i) / 8));
      const edges = Array.from({ length: edge }, (_, i) => [i, whole.length - 1 - i]);
      return [...new Set([...edges.flat(), ...between])];
    };

    test.each(compressed)("are refused wherever the compressed stream ends: %s", (format, whole) => {
      const cuts = sampleOf(whole).filter((cut) => cut > 0);
      const answers = bench.unpackEach(cuts.map((cut) => [`${format}-${cut}`, whole.subarray(0, cut)]));
      for (const answer of answers) expect(answer).toMatchObject({ exitCode: 1, stderr: "" });
    });

    test.each(compressed)("and streams with a changed byte are refused, or unpack to the same: %s", (format, whole) => {
      const good = bench.unpack(whole, "good").output;
      const damagedAt = (at: number) => {
        const damaged = Buffer.from(whole);
        damaged[at] = (damaged[at] ?? 0) ^ 0x41;
        return damaged;
      };
      for (const answer of bench.unpackEach(sampleOf(whole).map((at) => [`${format}-${at}`, damagedAt(at)]))) {
        expect(answer.stderr).toBe("");
        if (answer.exitCode === 0) expect(answer.output.diff_id).toBe(good.diff_id);
        else expect(answer).toMatchObject({ exitCode: 1 });
      }
    });
  });

  describe("bombs", () => {
    test("an archive of exactly the limit in bytes is accepted, one byte more is refused", () => {
      const archive = tar({ name: "x", content: "x" });
      expect(bench.unpack(gzipSync(archive), "fits", { maxBytes: archive.length })).toMatchObject({ exitCode: 0 });
      const answer = bench.unpack(gzipSync(archive), "past", { maxBytes: archive.length - 1 });
      expect(answer).toMatchObject(refused("it is larger than 2047 bytes", "limit"));
    });

    test("input that decompresses to nothing counts too, and no more of it than the limit is written to disk", () => {
      const archive = tar({ name: "x" });
      const frame = Buffer.alloc(8 + 1024 * 1024);
      frame.writeUInt32LE(0x184d2a50);
      frame.writeUInt32LE(1024 * 1024, 4);
      const empty = gzipSync("");
      const nothing = {
        skippable: Buffer.concat([zstdCompressSync(archive), frame, frame]),
        members: Buffer.concat([gzipSync(archive), Buffer.alloc(60_000 * empty.length, empty)]),
      };
      for (const [name, bytes] of Object.entries(nothing)) {
        const limits = { maxBytes: 1024 * 1024, blob: bench.path(`${name}.blob`) };
        const answer = bench.unpack(bytes, name, limits);
        expect(answer).toMatchObject(refused("read the layer: it is larger than 1048576 bytes", "limit"));
        expect(lstatSync(limits.blob).size).toBeLessThanOrEqual(1024 * 1024);
        expect(bench.unpack(bytes, `${name}-fits`)).toMatchObject({ exitCode: 0 });
      }
    });

    test("many empty files are unpacked, and refused at the limit of inodes", () => {
      const count = 1000;
      const files = tar(...Array.from({ length: count }, (_, i) => ({ name: `d${i % 100}/${i}` })));
      const limit = { maxInodes: count + 100 };
      expect(bench.unpack(gzipSync(files), "all", limit)).toMatchObject({
        exitCode: 0,
        output: { inodes: String(count + 100) },
      });
      const answer = bench.unpack(gzipSync(files), "some", { maxInodes: 500 });
      expect(answer).toMatchObject(refused("unpack the layer: it has more than 500 inodes", "limit"));
      expect(readdirSync(bench.path("some"), { recursive: true })).toHaveLength(500);
    });

    test("the limit of inodes counts parents, links, whiteouts and replaced files", () => {
      const many = (entry: (i: number) => TarEntry) =>
        tar({ name: "f" }, ...Array.from({ length: 20 }, (_, i) => entry(i)));
      const bombs = {
        parents: many(() => ({ name: `${"d/".repeat(20)}f` })),
        hard: many((i) => ({ name: `h${i}`, type: "1", link: "f" })),
        soft: many((i) => ({ name: `s${i}`, type: "2", link: "f" })),
        whiteouts: many((i) => ({ name: `.wh.${i}` })),
        same: many(() => ({ name: "f" })),
      };
      for (const [name, bytes] of Object.entries(bombs)) {
        const answer = bench.unpack(bytes, name, { maxInodes: 10 });
        expect(answer).toMatchObject(refused("it has more than 10 inodes", "limit"));
      }
    });
  });
});

describe("keelson-unpack in little memory, plain build", () => {
  const [plainBuild] = builds;
  let bench: Workbench;
  beforeEach(() => {
    bench = makeWorkbench(plainBuild.binary);
  });
  afterEach(() => bench.remove());

  /** Runs the unpacker in 64 MiB of address space. */
  const inLittleMemory = (bytes: Buffer, layer: string, maxBytes: number) => {
    mkdirSync(bench.path(layer));
    const words = ["--directory", bench.path(layer), "--max-bytes", String(maxBytes), "--max-inodes", "1000"];
    const command = ["prlimit", "--as=67108864", plainBuild.binary];
    const ran = spawnSync("env", ["--", ...command, ...words], { input: bytes, timeout: 60_000 });
    return { exitCode: ran.status, output: JSON.parse(ran.stdout.toString()), stderr: ran.stderr.toString() };
  };
  /** 64 MiB. */
  let zeros: Buffer;
  beforeAll(() => {
    zeros = gzipSync(Buffer.alloc(64 * 1024 * 1024));
  });
  const tenGiB = (): Buffer => {
    const header = tarEntry({ name: "zero", pax: { size: String(160 * 64 * 1024 * 1024) } });
    return Buffer.concat([gzipSync(header), ...Array.from({ length: 160 }, () => zeros)]);
  };

  test("a file of 10 GiB of zeros is refused at the limit, in constant memory (CVE-2023-25153)", () => {
    const answer = inLittleMemory(tenGiB(), "layer", 100_000_000);
    expect(answer).toMatchObject(refused("decompress the layer: it is larger than 100000000 bytes", "limit"));
    expect(lstatSync(bench.path("layer/zero")).size).toBeLessThanOrEqual(100_000_000);
  });

  test("zeros after the end mark are refused at the limit, too", () => {
    const bytes = Buffer.concat([gzipSync(tar({ name: "x" })), zeros, zeros]);
    expect(inLittleMemory(bytes, "layer", 100_000_000)).toMatchObject(refused("it is larger than", "limit"));
  });

  test("a big file is unpacked in constant memory", () => {
    const header = tarEntry({ name: "zero", pax: { size: String(2 * 64 * 1024 * 1024) } });
    const bytes = Buffer.concat([gzipSync(header), zeros, zeros, gzipSync(Buffer.alloc(1024))]);
    expect(inLittleMemory(bytes, "layer", 1e9)).toMatchObject({
      exitCode: 0,
      output: { unpacked_bytes: "134217728" },
    });
  });
});
