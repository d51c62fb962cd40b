// The SPDY codec on recorded bytes of our own, byte by byte, and on what an attacker would send.

import { duplexPair } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { constants, createDeflate } from "node:zlib";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { SpdyClientBytes } from "../testing/client-bytes.ts";
import { SpdyConnection, type SpdyStream } from "./connection.ts";
import { ControlType, controlFrame, dataFrame, type Frame, FrameParser, numbers } from "./frames.ts";
import { EmptyHeaders, HeaderDecoder, headerDictionary, parseHeaders } from "./headers.ts";

/** SYN_STREAM 1 {streamtype: stdin}, DATA "hi" with FIN, PING 9: made once by this codec and checked by hand. */
async function session(): Promise<Buffer> {
  return Buffer.concat([
    await new SpdyClientBytes().synStream(1, { streamtype: "stdin" }),
    dataFrame(1, 2, true),
    Buffer.from("hi"),
    controlFrame(ControlType.ping, 0, numbers(9)),
  ]);
}

const waiting = { timeout: 10_000, interval: 5 };

function all(chunks: readonly Buffer[]): Frame[] {
  const parser = new FrameParser();
  return chunks.flatMap((chunk) => [...parser.feed(chunk)]);
}

describe("frames", () => {
  test("a frame's bytes are as the draft has them", () => {
    expect(controlFrame(ControlType.ping, 0, numbers(9)).toString("hex")).toBe("800300060000000400000009");
    expect(dataFrame(5, 0x010203, true).toString("hex")).toBe("0000000501010203");
    expect(headerDictionary.length).toBe(1423);
  });

  test("whole and byte by byte give the same", async () => {
    const bytes = await session();
    const whole = all([bytes]);
    const pieces = all([...bytes].map((byte) => Buffer.from([byte])));
    expect(whole.map(({ kind }) => kind)).toEqual(["syn-stream", "data", "ping"]);
    const text = (frames: Frame[]) =>
      Buffer.concat(frames.flatMap((frame) => (frame.kind === "data" ? [frame.bytes] : []))).toString();
    expect(text(pieces)).toBe("hi");
    expect(pieces.findLast((frame) => frame.kind === "data")).toMatchObject({ fin: true });
    expect(pieces.filter((frame) => frame.kind !== "data")).toEqual(whole.filter((frame) => frame.kind !== "data"));
  });

  test.each([
    ["a control frame of 16 MiB", Buffer.from("8003000100ffffff", "hex")],
    ["another version", Buffer.from("8002000100000000", "hex")],
    ["a PING without an id", controlFrame(ControlType.ping, 0, Buffer.alloc(0))],
    ["a SYN_STREAM cut short", controlFrame(ControlType.synStream, 0, Buffer.alloc(6))],
  ])("%s is refused before anything is kept", (_, bytes) => {
    expect(() => all([bytes])).toThrow();
  });

  test("SETTINGS with a count of 2^32-1 is passed over", () => {
    expect(all([controlFrame(ControlType.settings, 0, numbers(0xffffffff, 1, 2))])).toEqual([{ kind: "ignored" }]);
  });

  test("data of a huge frame is handed on as it comes, never held", () => {
    const parser = new FrameParser();
    expect([...parser.feed(dataFrame(1, 0xffffff, false))]).toEqual([]);
    const [piece] = [...parser.feed(Buffer.alloc(1000))];
    expect(piece).toMatchObject({ kind: "data", fin: false });
  });
});

describe("headers", () => {
  test("blocks of one connection share a context", async () => {
    const [encoder, decoder] = [new SpdyClientBytes(), new HeaderDecoder()];
    for (const type of ["error", "stdin", "stdout"]) {
      const headers = { streamtype: type, port: "8080" };
      expect(await decoder.decode(await encoder.block(headers))).toEqual(new Map(Object.entries(headers)));
    }
  });

  test("our own blocks are empty, in whatever order they are sent", async () => {
    const [headers, decoder] = [new EmptyHeaders(), new HeaderDecoder()];
    for (let round = 0; round < 3; round += 1) expect(await decoder.decode(headers.next())).toEqual(new Map());
  });

  test("a bomb ends at 64 KiB", async () => {
    const deflate = createDeflate({ dictionary: headerDictionary });
    const parts: Buffer[] = [];
    deflate.on("data", (part: Buffer) => parts.push(part));
    deflate.write(Buffer.alloc(64 << 20));
    await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, resolve));
    const before = process.memoryUsage().rss;
    await expect(new HeaderDecoder().decode(Buffer.concat(parts))).rejects.toThrow("65536");
    expect(process.memoryUsage().rss - before).toBeLessThan(32 << 20);
  });

  test("what is not deflate is an error", async () => {
    await expect(new HeaderDecoder().decode(Buffer.from("hello, there"))).rejects.toThrow("inflate");
  });

  test.each([
    ["more headers than there can be", numbers(0xffffffff)],
    ["a name longer than the block", numbers(1, 0xfffffff0)],
    ["a block that ends early", numbers(2, 0, 0)],
  ])("%s is refused", (_, plain) => {
    expect(() => parseHeaders(plain)).toThrow();
  });
});

describe("connection", () => {
  const options = { stallMs: 1000, independent: false };

  test("damaged bytes end the connection, not the process", async () => {
    for (let seed = 1; seed <= 300; seed += 1) {
      const bytes = Buffer.from(await session());
      for (let flip = 0; flip < 3; flip += 1) {
        const at = (seed * 7919 + flip * 104729) % bytes.length;
        bytes[at] = (bytes[at] ?? 0) ^ (1 << ((seed + flip) % 8));
      }
      const [wire, client] = duplexPair();
      client.resume().on("error", () => undefined);
      const connection = new SpdyConnection(wire, bytes, {
        stallMs: 10,
        independent: seed % 2 === 0,
        onStream: (stream) => stream.resume(),
      });
      await delay(0);
      wire.destroy();
      await connection.closed;
    }
  });

  /** The client's end of a wire: opens a stream of that type, and sees what comes back. */
  async function openStream(stallMs: number) {
    const [wire, client] = duplexPair({ highWaterMark: 16 << 10 });
    const received: Buffer[] = [];
    client.on("data", (bytes: Buffer) => received.push(bytes)).on("error", () => undefined);
    const streams: SpdyStream[] = [];
    const connection = new SpdyConnection(wire, Buffer.alloc(0), {
      stallMs,
      independent: false,
      onStream: (stream) => streams.push(stream),
    });
    client.write(await new SpdyClientBytes().synStream(1, { streamtype: "data" }));
    const stream = await vi.waitUntil(() => streams[0], waiting);
    return { client, connection, stream, received: () => all([Buffer.concat(received)]) };
  }

  test("halves close one by one, and a PING is answered", async () => {
    const { client, stream, received } = await openStream(1000);
    const read: Buffer[] = [];
    stream.on("data", (bytes: Buffer) => read.push(bytes));
    client.write(
      Buffer.concat([dataFrame(1, 2, true), Buffer.from("in"), controlFrame(ControlType.ping, 0, numbers(7))]),
    );
    await vi.waitUntil(() => stream.readableEnded, waiting);
    expect(Buffer.concat(read).toString()).toBe("in");
    stream.end("out");
    const hasFin = (frames: Frame[]) => frames.some((frame) => frame.kind === "data" && frame.fin);
    await vi.waitUntil(() => hasFin(received()), waiting);
    const frames = received();
    expect(frames[0]).toMatchObject({ kind: "headers", streamId: 1 });
    expect(frames).toContainEqual({ kind: "ping", id: 7 });
    expect(frames).toContainEqual({ kind: "data", streamId: 1, bytes: Buffer.from("out"), fin: false });
    expect(frames.at(-1)).toMatchObject({ kind: "data", streamId: 1, fin: true });
  });

  test("a stream that nobody reads holds a bounded amount, then is reset, and the others go on", async () => {
    const { client, stream, received } = await openStream(100);
    let sent = 0;
    const feed = async () => {
      const chunk = Buffer.concat([dataFrame(1, 32 << 10, false), Buffer.alloc(32 << 10)]);
      while (sent < 16 << 20 && !stream.destroyed) {
        if (!client.write(chunk)) await new Promise((resolve) => client.once("drain", resolve));
        sent += chunk.length;
        expect(stream.readableLength).toBeLessThan(512 << 10);
      }
    };
    await feed();
    expect(stream.destroyed).toBe(true);
    client.write(controlFrame(ControlType.ping, 0, numbers(3)));
    await expect.poll(received, waiting).toContainEqual({ kind: "ping", id: 3 });
    expect(received()).toContainEqual({ kind: "rst-stream", streamId: 1 });
  });

  /** Go's spdystream takes a PING with id 0 for an error and ends all streams, as if they were complete. */
  test("a connection that waits for a reader sends PINGs that Go's client answers", async () => {
    vi.useFakeTimers({ toFake: ["setInterval"] });
    onTestFinished(() => void vi.useRealTimers());
    const { client, connection, received } = await openStream(Number.POSITIVE_INFINITY);
    client.write(Buffer.concat([dataFrame(1, 512 << 10, false), Buffer.alloc(512 << 10)]));
    await vi.waitUntil(() => vi.getTimerCount() > 0, waiting);
    vi.advanceTimersByTime(15_000);
    const pings = await vi.waitUntil(() => {
      const frames = received().filter((frame) => frame.kind === "ping");
      return frames.length >= 3 && frames;
    }, waiting);
    expect(pings.filter(({ id }) => id === 0 || id % 2 === 1)).toEqual([]);
    connection.destroy();
    await connection.closed;
  });

  test("a client that asks and does not read is read no further, however much it asks", async () => {
    const [wire, client] = duplexPair({ highWaterMark: 16 << 10 });
    client.on("error", () => undefined);
    const connection = new SpdyConnection(wire, Buffer.alloc(0), { ...options, onStream: () => undefined });
    const pings = Buffer.concat(Array.from({ length: 1000 }, () => controlFrame(ControlType.ping, 0, numbers(1))));
    for (let n = 0; n < 100; n += 1) client.write(pings);
    await delay(100);
    expect(wire.writableLength).toBeLessThan(100 << 10);
    client.resume();
    await vi.waitUntil(() => client.writableLength === 0, waiting);
    wire.destroy();
    await connection.closed;
  });

  test("a stream beyond a thousand is refused, and the others go on", async () => {
    const [wire, client] = duplexPair();
    const received: Buffer[] = [];
    client.on("data", (bytes: Buffer) => received.push(bytes)).on("error", () => undefined);
    let opened = 0;
    const connection = new SpdyConnection(wire, Buffer.alloc(0), { ...options, onStream: () => (opened += 1) });
    const bytes = new SpdyClientBytes();
    for (let n = 0; n <= 1000; n += 1) client.write(await bytes.synStream(2 * n + 1, {}));
    bytes.close();
    const refusal = { kind: "rst-stream", streamId: 2001 };
    await expect.poll(() => all([Buffer.concat(received)]), waiting).toContainEqual(refusal);
    expect(opened).toBe(1000);
    wire.destroy();
    await connection.closed;
  });
});
