// Decoding and hashing are done by libraries (ISA-L, libzstd, libcrypto) and tested there. These tests cover the code
// around them: sequences of pieces, members and frames, trailing data, header flags, the limits on window and memory,
// the error messages, and that the libraries are called correctly. codec-test (codec_test.cc) decodes; its plain and
// its sanitized build must agree.

import { execFileSync } from "node:child_process";
import { createCipheriv, createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { crc32, deflateRawSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const MiB = 1 << 20;

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "keelson-codec-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const programs = [
  { program: built("../../build/codec-test"), command: "make -C native" },
  { program: built("../../build/sanitize/codec-test"), command: "make -C native sanitize" },
];

function built(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}

/** What codec-test prints with `input` as its stdin: the plain and the sanitized build, which must agree. */
function codec(input: Buffer, ...args: string[]): string {
  const [plain, sanitized] = programs.map(({ program, command }) => {
    if (!existsSync(program)) throw new Error(`${program} is missing: run ${command}`);
    return execFileSync(program, args, { input, encoding: "utf8" }).trimEnd();
  });
  expect(sanitized).toBe(plain);
  return plain ?? "";
}

/** The result line of each stream, fed in pieces of `feed` bytes. */
function decoded(streams: readonly Buffer[], feed: number): string[] {
  return codec(frame(streams), "batch", String(feed)).split("\n");
}

/** One result line of the plain build, in an address space limited to `kibibytes`. */
function decodedWithin(kibibytes: number, stream: Buffer): string {
  const script = 'ulimit -v "$1" && shift && exec "$@"';
  const program = programs[0]?.program ?? "";
  return execFileSync("bash", ["-c", script, "bash", String(kibibytes), program, "batch", "65536"], {
    input: frame([stream]),
    encoding: "utf8",
  }).trimEnd();
}

function run(program: string, args: readonly string[], input: Buffer): Buffer {
  return execFileSync(program, args, { input, maxBuffer: 64 * MiB, stdio: ["pipe", "pipe", "ignore"] });
}

const gzip = (input: Buffer, ...args: string[]) => run("gzip", ["-c", ...args], input);
const zstd = (input: Buffer, ...args: string[]) => run("zstd", ["-qc", ...args], input);

/** zstd of a file, so that the frame header has the content's size. */
function zstdOfFile(input: Buffer, ...args: string[]): Buffer {
  const path = join(scratch, "content");
  writeFileSync(path, input);
  return execFileSync("zstd", ["-qc", ...args, path], { maxBuffer: 64 * MiB });
}

function verdict(content: Buffer): string {
  return `ok ${content.length} ${createHash("sha256").update(content).digest("hex")}`;
}

/** Bytes that do not compress, the same in every run. */
function noise(size: number): Buffer {
  return createCipheriv("aes-128-ctr", Buffer.alloc(16, "keelson"), Buffer.alloc(16)).update(Buffer.alloc(size));
}

const text = readFileSync("/usr/share/common-licenses/GPL-3");

describe("codecs", () => {
  test("SHA-256 test vectors and format detection", () => {
    expect(codec(Buffer.alloc(0), "self")).toMatch(/ok$/);
  });

  test.each([
    ["nothing", Buffer.alloc(0)],
    ["one byte", Buffer.from("x")],
    ["text", text],
    ["zeros", Buffer.alloc(2 * MiB)],
    ["noise", noise(MiB)],
    ["a program", readFileSync(process.execPath).subarray(0, MiB)],
  ])("gzip and zstd of %s", (_, content) => {
    const streams = [
      gzip(content, "-1"),
      gzip(content, "-9"),
      zstd(content, "-1"),
      zstd(content, "-9", "--no-check"),
      zstd(content, "-1", "--zstd=wlog=10"),
      zstdOfFile(content, "-3"),
    ];
    expect(new Set(decoded(streams, 65536))).toEqual(new Set([verdict(content)]));
  });

  test("matches 20 MiB back, in a window of 128 MiB", () => {
    const part = noise(10 * MiB);
    const content = Buffer.concat([part, Buffer.alloc(10 * MiB, text), part, text, part]);
    const stream = zstd(content, "-1", "--long=27");
    expect(stream.length).toBeLessThan(12 * MiB);
    expect(decoded([stream], 1_000_000)).toEqual([verdict(content)]);
  });

  test("content decodes to the same bytes however small the pieces are", () => {
    const content = Buffer.concat([text.subarray(0, 8000), noise(1000), Buffer.alloc(20_000), text.subarray(0, 8000)]);
    const streams = [gzip(content), zstd(content), zstdOfFile(content, "-19"), content];
    for (const feed of [1, 2, 3, 5, 13, 4096, 1_000_000]) {
      expect(new Set(decoded(streams, feed)), `by ${feed}`).toEqual(new Set([verdict(content)]));
    }
  });

  test("a stream may be split in two anywhere", () => {
    const content = Buffer.concat([text.subarray(0, 400), noise(50), Buffer.alloc(1000), text.subarray(0, 200)]);
    const part = content.subarray(0, 300);
    const members = Buffer.concat([gzipMember(content, 31), gzip(part)]);
    const frames = Buffer.concat([skippableFrame(300), zstd(content), skippableFrame(0), zstdOfFile(part)]);
    for (const stream of [members, frames]) {
      expect(codec(stream, "splits")).toBe(verdict(Buffer.concat([content, part])));
    }
  });

  test("sequences of members and frames, as pigz, pzstd and appending produce them", () => {
    const pieces = Array.from({ length: 6 }, (_, i) => text.subarray(i * 800, i * 800 + 2000 * (i % 3)));
    const frames = pieces.map((piece, i) => (i % 2 === 0 ? zstd(piece, "-19") : zstdOfFile(piece, "--no-check")));
    const streams = [
      Buffer.concat(pieces.map((piece) => gzip(piece))),
      Buffer.concat(frames),
      Buffer.concat(frames.flatMap((frame) => [skippableFrame(70_000), frame])),
    ];
    expect(new Set(decoded(streams, 1000))).toEqual(new Set([verdict(Buffer.concat(pieces))]));
  });

  test("gzip headers with every optional field are accepted, and wrong ones refused", () => {
    const good = Array.from({ length: 32 }, (_, flags) => gzipMember(text, flags));
    expect(new Set(decoded(good, 17))).toEqual(new Set([verdict(text)]));
    const wrongChecksum = gzipMember(text, 2);
    wrongChecksum[10] = (wrongChecksum[10] ?? 0) ^ 1;
    expect(decoded([wrongChecksum, gzipMember(text, 32), gzipMember(text, 128)], 17)).toEqual([
      "invalid decode gzip: a header's checksum is wrong",
      "invalid decode gzip: a header has reserved flags set",
      "invalid decode gzip: a header has reserved flags set",
    ]);
  });

  test("each kind of damage has its own error", () => {
    const head = Buffer.from("1f8b0800000000000003", "hex");
    const ofBits = (bits: string) => Buffer.concat([head, deflateBits(bits), Buffer.alloc(8)]);
    const wrongSize = gzip(text);
    wrongSize[wrongSize.length - 1] = 1;
    const wrongChecksum = zstd(text);
    wrongChecksum[wrongChecksum.length - 1] = (wrongChecksum[wrongChecksum.length - 1] ?? 0) ^ 1;
    const fixedBlock = "1 10";
    expect(decoded([ofBits("1 11"), ofBits(`${fixedBlock} 0000001 11110`)], 1000)).toEqual([
      "invalid decode gzip: a block has an invalid header",
      "invalid decode gzip: a code is not assigned to a symbol",
    ]);
    expect(decoded([ofBits(`${fixedBlock} 0000001 00000`), wrongSize, wrongChecksum], 1000)).toEqual([
      "invalid decode gzip: a match refers to data before the start of the content",
      "invalid decode gzip: the content's checksum or length is wrong",
      "invalid decode zstd: Restored data doesn't match checksum",
    ]);
  });

  test("every truncation and every flipped bit is refused, or changes nothing", () => {
    const content = Buffer.concat([text.subarray(0, 60), Buffer.alloc(40), text.subarray(20, 60)]);
    const streams = [gzip(content, "-n"), zstd(content, "-19"), zstdOfFile(content, "-1"), zstd(Buffer.alloc(3000))];
    for (const stream of streams) {
      const [cut, flipped] = codec(stream, "damage").split("\n");
      expect(cut).toBe(`cut ${stream.length} refused 0 same 0 other 0 wrong`);
      const counts = /^flipped (\d+) refused (\d+) same 0 other 0 wrong$/.exec(flipped ?? "");
      expect(counts, flipped).not.toBeNull();
      expect(Number(counts?.[1]) + Number(counts?.[2])).toBe(9 * stream.length);
    }
  });

  test("bytes after the end of the stream are refused", () => {
    const rests = [Buffer.alloc(4), Buffer.from("junk"), Buffer.from("more junk than a header")];
    for (const [format, stream] of [
      ["gzip", gzip(text)],
      ["zstd", zstd(text)],
    ] as const) {
      const answer = `invalid decode ${format}: there are bytes after the end of the stream`;
      const streams = rests.map((rest) => Buffer.concat([stream, rest]));
      expect(decoded(streams, 100)).toEqual(rests.map(() => answer));
    }
  });

  test("memory is bounded by the window, whatever the size of the content", () => {
    const zeros = Buffer.alloc(64 * MiB);
    for (const stream of [gzip(zeros, "-1"), zstd(zeros, "-1")]) {
      expect(decodedWithin(24 * 1024, stream)).toBe(verdict(zeros));
    }
  });

  test("a window that does not fit into memory is reported as an error", () => {
    expect(decodedWithin(24 * 1024, zstd(text, "--long=27"))).toBe(
      "system allocate a window for decoding zstd: Cannot allocate memory",
    );
  });

  test("a window above 128 MiB and a dictionary are refused with an explanation", () => {
    const withDictionary = Buffer.from("28b52ffd2101000000", "hex");
    withDictionary[5] = 7;
    expect(decoded([zstd(Buffer.alloc(1000), "--long=28"), withDictionary], 100)).toEqual([
      "invalid decode zstd: the stream needs a window above the limit of 128 MiB: compress it with a smaller one",
      "invalid decode zstd: the stream needs a dictionary, which is not supported: compress it without one",
    ]);
  });
});

/** A gzip member (RFC 1952) with the optional fields that `flags` name. */
function gzipMember(content: Buffer, flags: number): Buffer {
  const extra = Buffer.concat([Buffer.from([44, 1]), Buffer.alloc(300, "e")]);
  const fields: Buffer[] = [
    Buffer.from([0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 2, 3]),
    ...(flags & 4 ? [extra] : []),
    ...(flags & 8 ? [Buffer.from("name\0")] : []),
    ...(flags & 16 ? [Buffer.from(`${"comment".repeat(50)}\0`)] : []),
  ];
  if (flags & 2) fields.push(littleEndian(crc32(Buffer.concat(fields))).subarray(0, 2));
  const body = [deflateRawSync(content), littleEndian(crc32(content)), littleEndian(content.length)];
  return Buffer.concat([...fields, ...body]);
}

/** Bits in the order of RFC 1951, section 3.1.1: from each byte's lowest up. */
function deflateBits(text: string): Buffer {
  const bits = text.replaceAll(" ", "");
  const bytes = Array.from({ length: Math.ceil(bits.length / 8) }, (_, i) => bits.slice(8 * i, 8 * i + 8));
  return Buffer.from(bytes.map((byte) => Number.parseInt([...byte].reverse().join(""), 2)));
}

function littleEndian(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function skippableFrame(size: number): Buffer {
  const frame = Buffer.alloc(8 + size, 0x5a);
  frame.writeUInt32LE(0x184d2a53, 0);
  frame.writeUInt32LE(size, 4);
  return frame;
}

/** Streams for `codec-test batch`. */
function frame(streams: readonly Buffer[]): Buffer {
  return Buffer.concat(streams.flatMap((stream) => [littleEndian(stream.length), stream]));
}
