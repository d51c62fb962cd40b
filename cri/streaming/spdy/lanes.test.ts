// Pacing against a peer that works like moby/spdystream, used by kubectl and crictl: five workers with queues of fifty
// frames, each waiting for its stream's reader, and one read loop that blocks on a full queue.

import { duplexPair } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { SpdyClientBytes } from "../testing/client-bytes.ts";
import { SpdyConnection, type SpdyStream } from "./connection.ts";
import { ControlType, controlFrame, type Frame, FrameParser, numbers } from "./frames.ts";

class Worker {
  readonly #queue: Frame[] = [];
  readonly #handle: (frame: Frame) => Promise<void>;
  #running = false;
  #room: () => void = () => undefined;

  constructor(handle: (frame: Frame) => Promise<void>) {
    this.#handle = handle;
  }

  async push(frame: Frame): Promise<void> {
    while (this.#queue.length >= 50) {
      await new Promise<void>((resolve) => {
        this.#room = resolve;
      });
    }
    this.#queue.push(frame);
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let frame = this.#queue.shift(); frame !== undefined; frame = this.#queue.shift()) {
      this.#room();
      await this.#handle(frame);
    }
    this.#running = false;
  }
}

interface GoPeer {
  open(id: number): Promise<SpdyStream>;
  /** Streams whose reader is blocked, and the promises that they wait for. */
  readonly unread: Map<number, Promise<void>>;
  /** Bytes read, by stream. */
  readonly read: ReadonlyMap<number, number>;
  /** How many streams the server opened as probes, and how many of those it reset again. */
  readonly probes: { opened: number; reset: number };
  end(): Promise<void>;
}

function goPeer({ answers = true } = {}): GoPeer {
  const [wire, client] = duplexPair({ highWaterMark: 64 << 10 });
  client.on("error", () => undefined);
  const opened = new Map<number, SpdyStream>();
  const connection = new SpdyConnection(wire, Buffer.alloc(0), {
    stallMs: 1000,
    independent: true,
    onStream: (stream) => opened.set(stream.id, stream.resume()),
  });
  const [unread, read, probes] = [new Map<number, Promise<void>>(), new Map<number, number>(), { opened: 0, reset: 0 }];
  const answer = (type: number, body: Buffer) => {
    if (answers) client.write(controlFrame(type, 0, body));
  };
  const bytes = new SpdyClientBytes();
  const handle = async (frame: Frame): Promise<void> => {
    if (frame.kind === "data") {
      await unread.get(frame.streamId);
      read.set(frame.streamId, (read.get(frame.streamId) ?? 0) + frame.bytes.length);
    } else if (frame.kind === "ping") answer(ControlType.ping, numbers(frame.id));
    else if (frame.kind === "syn-stream") {
      probes.opened += 1;
      answer(ControlType.synReply, Buffer.concat([numbers(frame.streamId), await bytes.block({})]));
    } else if (frame.kind === "rst-stream") probes.reset += 1;
  };
  const workers = Array.from({ length: 5 }, () => new Worker(handle));
  let turn = 0;
  const reading = (async () => {
    const parser = new FrameParser();
    for await (const chunk of client) {
      for (const frame of parser.feed(chunk)) {
        const index = "streamId" in frame ? frame.streamId % 5 : turn++ % 5;
        await workers[index]?.push(frame);
      }
    }
  })().catch(() => undefined);
  return {
    unread,
    read,
    probes,
    async open(id) {
      client.write(await bytes.synStream(id, { streamtype: "data" }));
      await expect.poll(() => opened.get(id)).toBeDefined();
      const stream = opened.get(id);
      if (stream === undefined) throw new Error("not opened");
      return stream;
    },
    async end() {
      client.destroy();
      wire.destroy();
      bytes.close();
      await connection.closed;
      await reading;
    },
  };
}

/** Sends this many MiB, in frames of 64 KiB; resolves when all have been passed to the peer. */
async function send(stream: SpdyStream, mebibytes: number): Promise<void> {
  const chunk = Buffer.alloc(64 << 10);
  for (let sent = 0; sent < mebibytes << 20; sent += chunk.length)
    await new Promise<void>((resolve, reject) => {
      stream.write(chunk, (error) => (error ? reject(error) : resolve()));
    });
}

describe("one stream is never read", () => {
  let peer: GoPeer;
  let readOn: () => void;
  beforeEach(() => {
    peer = goPeer();
    const { promise, resolve } = Promise.withResolvers<void>();
    peer.unread.set(3, promise);
    readOn = resolve;
  });
  afterEach(() => peer.end());

  test("the streams of other workers continue without limit", async () => {
    const stuck = await peer.open(3);
    send(stuck, 64).catch(() => undefined);
    await delay(50);
    const [second, third] = [await peer.open(7), await peer.open(11)];
    await Promise.all([send(second, 256), send(third, 256)]);
    await expect.poll(() => [peer.read.get(7), peer.read.get(11)]).toEqual([256 << 20, 256 << 20]);
    expect(stuck.writableLength, "what waits is one stream's buffer").toBeLessThan(256 << 10);
    expect(peer.probes.opened, "PINGs would fill the stuck worker's queue").toBeGreaterThan(100);
    await expect.poll(() => peer.probes.reset).toBe(peer.probes.opened);
  });

  test("a stream of the same worker waits, and both continue once the first is read", async () => {
    const [stuck, beside] = [await peer.open(3), await peer.open(13)];
    const both = Promise.all([send(stuck, 64), send(beside, 16)]);
    await delay(50);
    expect(peer.read.size).toBe(0);
    readOn();
    await both;
    await expect.poll(() => [peer.read.get(3), peer.read.get(13)]).toEqual([64 << 20, 16 << 20]);
  });
});

describe("all are read", () => {
  test("the server sends nothing before the peer does: Go's upgrade would lose it, and the frame count would be wrong", async () => {
    const [wire, client] = duplexPair();
    let heard = 0;
    client.on("data", (bytes: Buffer) => {
      heard += bytes.length;
    });
    const connection = new SpdyConnection(wire, Buffer.alloc(0), {
      stallMs: 1000,
      independent: true,
      onStream: (stream) => stream.resume(),
    });
    await delay(50);
    expect(heard).toBe(0);
    client.write(await new SpdyClientBytes().synStream(1, {}));
    await expect.poll(() => heard).toBeGreaterThan(0);
    client.destroy();
    wire.destroy();
    await connection.closed;
  });

  test("pacing needs only PINGs", async () => {
    const peer = goPeer();
    const streams = [await peer.open(3), await peer.open(7), await peer.open(11)];
    await Promise.all(streams.map((stream) => send(stream, 32)));
    await expect.poll(() => [...peer.read.values()]).toEqual(streams.map(() => 32 << 20));
    expect(peer.probes.opened).toBe(0);
    await peer.end();
  });

  test("a peer that answers no PING is not paced", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const peer = goPeer({ answers: false });
    const stream = await peer.open(3);
    let sent = false;
    const sending = send(stream, 16).then(() => {
      sent = true;
    });
    await delay(100);
    vi.advanceTimersByTime(9_900);
    await delay(100);
    expect(sent).toBe(false);
    vi.advanceTimersByTime(100);
    await sending;
    await expect.poll(() => peer.read.get(3)).toBe(16 << 20);
    await peer.end();
  });
});
