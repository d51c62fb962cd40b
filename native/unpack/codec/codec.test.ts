// The codecs against the field's own compressors: Debian's gzip and zstd, and Python's zlib.
// codec-test (codec_test.cc) decodes; every case runs in its plain and in its sanitized build.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const MiB = 1 << 20;
const maxOutput = 512 * MiB;

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
    return execFileSync(program, args, { input, encoding: "utf8", maxBuffer: 16 * MiB }).trimEnd();
  });
  expect(sanitized).toBe(plain);
  return plain ?? "";
}

/** The same of the plain build, in an address space of so many KiB. */
function codecWithin(kibibytes: number, input: Buffer, ...args: string[]): string {
  const script = 'ulimit -v "$1" && shift && exec "$@"';
  const program = programs[0]?.program ?? "";
  return execFileSync("bash", ["-c", script, "bash", String(kibibytes), program, ...args], {
    input,
    encoding: "utf8",
  }).trimEnd();
}

function run(program: string, args: readonly string[], input: Buffer): Buffer {
  return execFileSync(program, args, { input, maxBuffer: maxOutput, stdio: ["pipe", "pipe", "ignore"] });
}

const gzip = (input: Buffer, ...args: string[]) => run("gzip", ["-c", ...args], input);
const zstd = (input: Buffer, ...args: string[]) => run("zstd", ["-qc", ...args], input);

/** zstd of a file, so that the frame header tells the content's size. */
function zstdOfFile(input: Buffer, ...args: string[]): Buffer {
  const path = join(scratch, "content");
  writeFileSync(path, input);
  return execFileSync("zstd", ["-qc", ...args, path], { maxBuffer: maxOutput });
}

/** Runs a Python script that writes streams to stdout, each behind its length (u32). */
function pythonStreams(script: string, input: Buffer): Buffer {
  const prelude =
    "import sys, zlib, struct, random\n" +
    "data = sys.stdin.buffer.read()\n" +
    "def put(b): sys.stdout.buffer.write(struct.pack('<I', len(b)) + b)\n";
  return run("python3", ["-c", prelude + script], input);
}

function verdict(content: Buffer): string {
  return `ok ${content.length} ${createHash("sha256").update(content).digest("hex")}`;
}

/** Bytes that do not compress, the same in every run. */
function noise(size: number, seed = "keelson"): Buffer {
  const parts: Buffer[] = [];
  for (let i = 0; i * 64 < size; i++) parts.push(createHash("sha512").update(`${seed} ${i}`).digest());
  return Buffer.concat(parts).subarray(0, size);
}

const text = readFileSync("/usr/share/common-licenses/GPL-3");
const tar = () => execFileSync("tar", ["-cf", "-", "-C", "/usr/share", "doc"], { maxBuffer: maxOutput });

/** Content of every texture a layer may have, by name. */
const contents: ReadonlyMap<string, Buffer> = new Map([
  ["nothing", Buffer.alloc(0)],
  ["one byte", Buffer.from("x")],
  ["two bytes", Buffer.from("xx")],
  ["text", text],
  ["zeros", Buffer.alloc(5 * MiB)],
  ["noise", noise(MiB)],
  ["noise between zeros", Buffer.concat([Buffer.alloc(70_000), noise(300_000), Buffer.alloc(70_000), noise(10)])],
  ["short repeats", Buffer.concat(Array.from({ length: 600 }, (_, i) => noise((i % 40) + 1, `${i % 7}`)))],
  ["a tar", tar().subarray(0, 4 * MiB)],
  ["a program", readFileSync(process.execPath).subarray(0, 4 * MiB)],
]);

const gzipLevels = ["-1", "-6", "-9"];
const zstdOptions = [
  ["-1"],
  ["-3"],
  ["--fast=5"],
  ["-19"],
  ["-3", "--no-check"],
  ["--ultra", "-22"],
  ["--long=27"],
  ["-1", "--zstd=wlog=10"],
  ["-5", "--zstd=wlog=12"],
  ["-9", "--zstd=wlog=17", "-B1000"],
];

test("the tar holds enough to be worth decoding", () => {
  expect(contents.get("a tar")?.length).toBeGreaterThan(MiB);
});

/** Streams with one byte changed, and what zstd's own decoder makes of them. */
let damaged: { readonly stream: Buffer; readonly verdict: string }[];
beforeAll(() => {
  const random = noise(1000, "damage");
  damaged = Array.from({ length: 200 }, (_, i) => {
    const part = text.subarray((i % 50) * 300, (i % 50) * 300 + 300 + (i % 3) * 2500);
    const stream = zstd(part, "--no-check", i % 2 === 0 ? "-1" : "-19");
    stream[6 + (random.readUInt16LE(2 * i) % (stream.length - 6))] = random[500 + i] ?? 0;
    try {
      return { stream, verdict: verdict(run("zstd", ["-dqc"], stream)) };
    } catch {
      return { stream, verdict: "invalid" };
    }
  });
});

describe("codecs", () => {
  test("known answers of SHA-256, and formats told apart", () => {
    expect(codec(Buffer.alloc(0), "self")).toMatch(/ok$/);
  });

  test.each([...contents.keys()])("gzip of %s", (name) => {
    const content = contents.get(name) ?? Buffer.alloc(0);
    for (const level of gzipLevels) {
      expect(codec(gzip(content, level), "decode", "65536"), level).toBe(verdict(content));
    }
  });

  test.each([...contents.keys()])("zstd of %s", { timeout: 120_000 }, (name) => {
    const content = contents.get(name) ?? Buffer.alloc(0);
    for (const options of zstdOptions) {
      expect(codec(zstd(content, ...options), "decode", "65536"), options.join(" ")).toBe(verdict(content));
    }
    expect(codec(zstdOfFile(content), "decode", "65536"), "with its size").toBe(verdict(content));
  });

  test("matches 20 MiB back, in a window of 128 MiB", { timeout: 120_000 }, () => {
    const part = noise(10 * MiB);
    const content = Buffer.concat([part, Buffer.alloc(10 * MiB, text), part, text, part]);
    const stream = zstd(content, "--ultra", "-22", "--long=27");
    expect(stream.length).toBeLessThan(12 * MiB);
    expect(codec(stream, "decode", "1000000")).toBe(verdict(content));
  });

  test("content decodes alike however small the pieces are", () => {
    const content = Buffer.concat([text, noise(3000), Buffer.alloc(200_000), text]);
    for (const stream of [gzip(content), zstd(content), zstdOfFile(content, "-19"), content]) {
      for (const feed of ["1", "2", "3", "5", "13", "4096", "1000000"]) {
        expect(codec(stream, "decode", feed)).toBe(verdict(content));
      }
    }
  });

  test("a stream may be cut in two anywhere", () => {
    const content = Buffer.concat([text.subarray(0, 2500), noise(100), Buffer.alloc(3000), text.subarray(0, 900)]);
    const part = content.subarray(0, 700);
    const streams = [gzip(content), gzip(noise(3000)), zstd(content), zstd(noise(500)), zstd(Buffer.alloc(3000))];
    for (const stream of streams) expect(codec(stream, "splits")).toMatch(/^ok /);
    expect(codec(Buffer.concat([gzip(content), gzip(part)]), "splits")).toBe(verdict(Buffer.concat([content, part])));
    expect(codec(Buffer.concat([skippableFrame(300), zstd(content), skippableFrame(0), zstd(part)]), "splits")).toBe(
      verdict(Buffer.concat([content, part])),
    );
  });

  test("members and frames one behind the other, as pigz, pzstd and appending make them", () => {
    const pieces = Array.from({ length: 12 }, (_, i) => text.subarray(i * 800, i * 800 + 2000 * (i % 3)));
    const content = Buffer.concat(pieces);
    expect(codec(Buffer.concat(pieces.map((piece) => gzip(piece))), "decode", "1000")).toBe(verdict(content));
    const frames = pieces.map((piece, i) => (i % 2 === 0 ? zstd(piece, "-19") : zstdOfFile(piece, "--no-check")));
    expect(codec(Buffer.concat(frames), "decode", "1000")).toBe(verdict(content));
    const skipped = frames.flatMap((frame) => [skippableFrame(70_000), frame]);
    expect(codec(Buffer.concat(skipped), "decode", "1000")).toBe(verdict(content));
  });

  test("every kind of DEFLATE block, strategy and flush of zlib", () => {
    const content = Buffer.concat([text, noise(100_000), Buffer.alloc(100_000), text]);
    const script = `
for level in range(10):
  for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED):
    for window in (9, 15):
      for flush in (None, zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK):
        c = zlib.compressobj(level, zlib.DEFLATED, 16 + window, 8, strategy)
        if flush is None:
          put(c.compress(data) + c.flush())
          continue
        r = random.Random(level)
        out, at = [], 0
        while at < len(data):
          size = r.choice((1, 30, 3000, 60000))
          out += [c.compress(data[at:at + size]), c.flush(flush)]
          at += size
        put(b''.join(out) + c.flush())
`;
    const streams = pythonStreams(script, content);
    const results = codec(streams, "batch", "50000").split("\n");
    expect(results).toHaveLength(10 * 5 * 2 * 5);
    expect(new Set(results)).toEqual(new Set([verdict(content)]));
  });

  test("gzip headers with every optional field, and wrong ones refused", () => {
    const script = `
def member(flags, fields, spoil=0):
  head = b'\\x1f\\x8b\\x08' + bytes([flags]) + b'\\x01\\x02\\x03\\x04\\x02\\x03' + fields
  if flags & 2: head += struct.pack('<H', (zlib.crc32(head) ^ spoil) & 0xffff)
  c = zlib.compressobj(6, zlib.DEFLATED, -15)
  return head + c.compress(data) + c.flush() + struct.pack('<II', zlib.crc32(data), len(data) & 0xffffffff)
extra = struct.pack('<H', 300) + b'e' * 300
for flags in range(32):
  fields = (extra if flags & 4 else b'') + (b'name\\0' if flags & 8 else b'') + (b'comment' * 50 + b'\\0' if flags & 16 else b'')
  put(member(flags, fields))
put(member(2, b'', 1))
put(member(32, b''))
put(member(128, b''))
`;
    const results = codec(pythonStreams(script, text), "batch", "17").split("\n");
    expect(new Set(results.slice(0, 32))).toEqual(new Set([verdict(text)]));
    expect(results.slice(32)).toEqual([
      "invalid decode gzip: a header's checksum is wrong",
      "invalid decode gzip: a header with reserved flags set",
      "invalid decode gzip: a header with reserved flags set",
    ]);
  });

  test("incomplete codes that DEFLATE allows, as other compressors than zlib make them", () => {
    // Blocks by hand: "a" is 0, the end 10, a match of three 11; the code lengths 18, 1 and 2 are 0, 10 and 11.
    const script = `
def block(lengths, distances, body):
  bits = '1' + '01' + f'{len(lengths) - 257:05b}'[::-1] + f'{len(distances) - 1:05b}'[::-1] + f'{14:04b}'[::-1]
  for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1):
    bits += f'{ {18: 1, 0: 3, 1: 3, 2: 2}.get(symbol, 0):03b}'[::-1]
  codes = {18: '0', 2: '10', 0: '110', 1: '111'}
  rest = lengths + distances
  while rest:
    zeros = 0
    while zeros < min(138, len(rest)) and rest[zeros] == 0: zeros += 1
    if zeros >= 11: bits += codes[18] + f'{zeros - 11:07b}'[::-1]
    else:
      zeros = 1
      bits += codes[rest[0]]
    rest = rest[zeros:]
  bits += body
  return bytes(int(bits[i:i + 8][::-1], 2) for i in range(0, len(bits), 8))
def judge(raw):
  d = zlib.decompressobj(-15)
  try:
    out = d.decompress(raw)
    if not d.eof: raise zlib.error('cut short')
    put(b'V' + b'\\x1f\\x8b\\x08' + bytes(7) + raw + struct.pack('<II', zlib.crc32(out), len(out)))
  except zlib.error:
    put(b'I' + b'\\x1f\\x8b\\x08' + bytes(7) + raw + bytes(8))
zeros = [0] * 97
lengths = zeros + [1] + [0] * 158 + [2, 2]
judge(block(lengths, [1], '0' + '110' + '10'))         # the one distance there is
judge(block(lengths, [1], '0' + '111' + '10'))         # the distance there is not
judge(block(lengths, [0], '0' + '0' + '10'))           # no distance, and none used
judge(block(lengths, [0], '0' + '110' + '10'))         # no distance, but a match
judge(block(lengths, [2], '0' + '1100' + '10'))        # one distance of two bits
judge(block(lengths, [1, 2], '0' + '110' + '10'))      # two distances and a string over
judge(block([0] * 256 + [1], [1], '0'))                # nothing but the end
judge(block([0] * 256 + [2], [1], '00'))               # the end in two bits
judge(block(zeros + [1] + [0] * 160, [1], '0'))        # no end
judge(block(zeros + [1] + [0] * 158 + [1, 1], [1], '0'))  # too many codes
`;
    const marked = unframe(pythonStreams(script, Buffer.alloc(0)));
    expect(marked.map((stream) => String.fromCharCode(stream[0] ?? 0)).join("")).toBe("VIVIIIVIII");
    const results = codec(frame(marked.map((stream) => stream.subarray(1))), "batch", "1000").split("\n");
    // ISA-L lets the end stand in two bits where zlib wants it in one; there is no second way to read such a block.
    expect(results.map((result) => (result.startsWith("ok ") ? "V" : "I")).join("")).toBe("VIVIIIVVII");
    expect(results[0]).toBe(verdict(Buffer.from("aaaa")));
    expect(results[1]).toBe("invalid decode gzip: a code that stands for no symbol");
  });

  test("damaged gzip streams are judged as zlib judges them", { timeout: 120_000 }, () => {
    const script = `
r = random.Random(7)
for level in (1, 6, 9):
  for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_FIXED):
    for size in (40, 400, 4000):
      at = r.randrange(len(data) - size)
      part = data[at:at + size]
      c = zlib.compressobj(level, zlib.DEFLATED, 31, 8, strategy)
      good = c.compress(part) + c.flush()
      for _ in range(150):
        bad = bytearray(good)
        for _ in range(r.choice((1, 1, 2, 8))): bad[r.randrange(10, len(bad) - 8)] = r.randrange(256)
        d = zlib.decompressobj(-15)
        try:
          out = d.decompress(bytes(bad[10:])) + d.flush()
          if not d.eof: raise zlib.error('cut short')
          tail = struct.pack('<II', zlib.crc32(out), len(out))
          put(b'V' + bytes(bad[:len(bad) - len(d.unused_data)]) + tail)
        except zlib.error:
          put(b'I' + bytes(bad))
`;
    const marked = unframe(pythonStreams(script, text));
    const results = codec(frame(marked.map((stream) => stream.subarray(1))), "batch", "1000").split("\n");
    const wrong = marked.filter((stream, i) => (stream[0] === 0x56) !== (results[i] ?? "").startsWith("ok "));
    expect(wrong.map((stream) => stream.toString("hex"))).toEqual([]);
    const valid = marked.filter((stream) => stream[0] === 0x56).length;
    expect(valid).toBeGreaterThan(100);
    expect(marked.length - valid).toBeGreaterThan(100);
  });

  test("damaged zstd streams are judged as zstd judges them, or more strictly", () => {
    const results = codec(frame(damaged.map(({ stream }) => stream)), "batch", "100000").split("\n");
    const wrong = damaged.filter(({ verdict }, i) => {
      const result = results[i] ?? "";
      // RFC 8878, section 4.2.2, calls a bitstream faulty that is not used up exactly; zstd 1.5 looks past it.
      const strict = / (a literals stream does not end with its literals|sequences do not end where their bits end)$/;
      return result !== verdict && !(result.startsWith("invalid ") && (verdict === "invalid" || strict.test(result)));
    });
    expect(wrong.map(({ stream }) => stream.toString("hex"))).toEqual([]);
    expect(results.filter((result) => result.startsWith("ok ")).length).toBeGreaterThan(30);
    expect(damaged.filter(({ verdict }) => verdict === "invalid").length).toBeGreaterThan(30);
  });

  test("every truncation and every flipped bit is refused, or changes nothing", { timeout: 240_000 }, () => {
    const content = Buffer.concat([text.subarray(0, 500), Buffer.alloc(400), text.subarray(300, 700)]);
    const streams = [gzip(content, "-n"), zstd(content, "-19"), zstdOfFile(content, "-1"), zstd(Buffer.alloc(3000))];
    for (const stream of streams) {
      const [cut, flipped] = codec(stream, "damage").split("\n");
      expect(cut).toBe(`cut ${stream.length} refused 0 same 0 other 0 wrong`);
      const counts = /^flipped (\d+) refused (\d+) same 0 other 0 wrong$/.exec(flipped ?? "");
      expect(counts, flipped).not.toBeNull();
      expect(Number(counts?.[1]) + Number(counts?.[2])).toBe(9 * stream.length);
    }
  });

  test("what stands behind the stream's end is refused", () => {
    for (const rest of [Buffer.alloc(4), Buffer.from("junk"), Buffer.from("more junk than a header")]) {
      for (const [format, stream] of [
        ["gzip", gzip(text)],
        ["zstd", zstd(text)],
      ] as const) {
        expect(codec(Buffer.concat([stream, rest]), "decode", "100")).toBe(
          `invalid decode ${format}: bytes behind the end of the stream`,
        );
      }
    }
  });

  test("memory is bounded by the window, whatever the size of the content", () => {
    const zeros = Buffer.alloc(300 * MiB);
    for (const stream of [gzip(zeros, "-1"), zstd(zeros, "-1")]) {
      expect(codecWithin(24 * 1024, stream, "decode", "65536")).toBe(verdict(zeros));
    }
  });

  test("a window there is no memory for is an error in words", () => {
    expect(codecWithin(24 * 1024, zstd(text, "--long=27"), "decode", "65536")).toBe(
      "system allocate a window for decoding zstd: Cannot allocate memory",
    );
  });

  test("a window above 128 MiB and a dictionary are refused in words", () => {
    expect(codec(zstd(Buffer.alloc(1000), "--long=28"), "decode", "100")).toBe(
      "invalid decode zstd: the stream needs a window above the limit of 128 MiB: compress it with a smaller one",
    );
    const withDictionary = Buffer.from("28b52ffd2101000000", "hex");
    withDictionary[5] = 7;
    expect(codec(withDictionary, "decode", "100")).toBe(
      "invalid decode zstd: the stream needs a dictionary, which is not supported: compress it without",
    );
  });
});

function skippableFrame(size: number): Buffer {
  const frame = Buffer.alloc(8 + size, 0x5a);
  frame.writeUInt32LE(0x184d2a53, 0);
  frame.writeUInt32LE(size, 4);
  return frame;
}

/** Streams for `codec-test batch`. */
function frame(streams: readonly Buffer[]): Buffer {
  return Buffer.concat(
    streams.flatMap((stream) => {
      const size = Buffer.alloc(4);
      size.writeUInt32LE(stream.length);
      return [size, stream];
    }),
  );
}

function unframe(framed: Buffer): Buffer[] {
  const streams: Buffer[] = [];
  for (let at = 0; at < framed.length; ) {
    const size = framed.readUInt32LE(at);
    streams.push(framed.subarray(at + 4, at + 4 + size));
    at += 4 + size;
  }
  return streams;
}
