// The framing according to PROTOCOL.md's table: bytes split at every position, and every kind of invalid frame.

import { describe, expect, it } from "vitest";
import {
  decodeJson,
  encodeJson,
  encodeResize,
  FrameDecoder,
  FrameError,
  FrameType,
  frameHeader,
  framesFromMonitor,
  framesToMonitor,
  maxBytesPayload,
  maxJsonPayload,
} from "./frames.ts";

interface Taken {
  type: FrameType;
  payload: string;
}

function decode(stream: Buffer, step: number, rules = framesFromMonitor): Taken[] {
  const decoder = new FrameDecoder(rules);
  const taken: Taken[] = [];
  for (let at = 0; at < stream.length; at += step) {
    // A copy, wiped afterwards, to detect a decoder that keeps a view of an earlier chunk.
    const chunk = Buffer.from(stream.subarray(at, at + step));
    decoder.push(chunk, (type, payload) => taken.push({ type, payload: payload.toString("latin1") }));
    chunk.fill(0);
  }
  expect(decoder.idle).toBe(true);
  return taken;
}

function frame(type: FrameType, payload: string): Buffer {
  return Buffer.concat([frameHeader(type, payload.length), Buffer.from(payload, "latin1")]);
}

describe("encoding", () => {
  it("writes the header's bytes as in the table", () => {
    expect(frameHeader(FrameType.stdout, 0x010203).toString("hex")).toBe("8301000003020100");
    expect(encodeResize(80, 65_535).toString("hex")).toBe(`0401000004000000${"5000"}${"ffff"}`);
    expect(encodeJson(FrameType.request, { op: "é" }).toString("hex")).toBe(
      `010100000b000000${Buffer.from('{"op":"é"}').toString("hex")}`,
    );
  });

  it("rejects a message above 1 MiB, and accepts one of exactly that size", () => {
    const around = '{"x":""}'.length;
    expect(encodeJson(FrameType.request, { x: "a".repeat(maxJsonPayload - around) })).toHaveLength(maxJsonPayload + 8);
    expect(() => encodeJson(FrameType.request, { x: "a".repeat(maxJsonPayload - around + 1) })).toThrow(FrameError);
  });
});

describe("decoding", () => {
  const stream = Buffer.concat([
    frame(FrameType.started, '{"pid":1}'),
    frame(FrameType.stdout, "out"),
    frame(FrameType.stdout, ""),
    frame(FrameType.stderr, "\x00\xff\x83"),
    frame(FrameType.stdout, "x".repeat(maxBytesPayload)),
    frame(FrameType.event, '{"type":"oom"}'),
    frame(FrameType.reply, "{}"),
  ]);
  const frames: Taken[] = [
    { type: FrameType.started, payload: '{"pid":1}' },
    { type: FrameType.stdout, payload: "out" },
    { type: FrameType.stdout, payload: "" },
    { type: FrameType.stderr, payload: "\x00\xff\x83" },
    { type: FrameType.stdout, payload: "x".repeat(maxBytesPayload) },
    { type: FrameType.event, payload: '{"type":"oom"}' },
    { type: FrameType.reply, payload: "{}" },
  ];

  for (const step of [1, 2, 3, 7, 8, 9, 63, 4096, 65_536, stream.length]) {
    it(`decodes the same frames from chunks of ${step} bytes`, () => {
      expect(decode(stream, step)).toEqual(frames);
    });
  }

  it("decodes frames to the monitor by their own rules", () => {
    const calls = Buffer.concat([
      encodeJson(FrameType.request, { op: "hello" }),
      encodeResize(1, 2),
      frame(FrameType.stdinClose, ""),
    ]);
    expect(decode(calls, 1, framesToMonitor).map(({ type }) => type)).toEqual([1, 4, 3]);
    expect(() => decode(calls, 1, framesFromMonitor)).toThrow(/unknown type 1/);
  });

  it("detects a truncated frame", () => {
    const decoder = new FrameDecoder(framesFromMonitor);
    decoder.push(frame(FrameType.stdout, "abc").subarray(0, 10), () => expect.unreachable());
    expect(decoder.idle).toBe(false);
  });
});

describe("invalid frames", () => {
  const bad: [string, Buffer, RegExp][] = [
    ["another version", Buffer.from([0x83, 2, 0, 0, 1, 0, 0, 0]), /protocol version 2/],
    ["reserved bytes", Buffer.from([0x83, 1, 1, 0, 1, 0, 0, 0]), /reserved/],
    ["an unknown type", Buffer.from([0x99, 1, 0, 0, 1, 0, 0, 0]), /unknown type 153/],
    ["bytes above 64 KiB", frameHeader(FrameType.stdout, maxBytesPayload + 1), /65537 bytes/],
    ["JSON above 1 MiB", frameHeader(FrameType.reply, maxJsonPayload + 1), /1048577 bytes/],
    ["4 GiB", frameHeader(FrameType.error, 0xffff_ffff), /4294967295 bytes/],
    ["an empty answer", frameHeader(FrameType.reply, 0), /0 bytes/],
  ];
  for (const [name, header, reason] of bad) {
    it(`rejects ${name} once the header is complete, in one chunk or byte by byte`, () => {
      expect(() => decode(header, 8)).toThrow(reason);
      expect(() => decode(header, 1)).toThrow(reason);
    });
  }

  it("rejects invalid JSON and JSON that is not an object", () => {
    for (const text of ["{", "[]", "null", "7", '"x"', ""]) {
      expect(() => decodeJson(Buffer.from(text))).toThrow(FrameError);
    }
    expect(decodeJson(Buffer.from('{"a":1}'))).toEqual({ a: 1 });
  });

  it("decodes random bytes to frames or a FrameError, nothing else", () => {
    let seed = 12_345;
    const random = () => {
      seed = Math.imul(seed, 1_103_515_245) + 12_345;
      return (seed >>> 1) / 0x8000_0000;
    };
    for (let round = 0; round < 2_000; round++) {
      const noisy = Buffer.concat([
        frame(FrameType.stdout, "ab"),
        Buffer.from(Array.from({ length: 24 }, () => Math.floor(random() * (random() < 0.5 ? 4 : 256)))),
      ]);
      const decoder = new FrameDecoder(framesFromMonitor);
      try {
        for (const byte of noisy) decoder.push(Buffer.from([byte]), () => undefined);
      } catch (error) {
        expect(error).toBeInstanceOf(FrameError);
      }
    }
  });
});
