// WebSocket sessions byte by byte: what a client of each protocol sends, and what it must receive.

import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { WebSocket } from "ws";
import { ControlType, controlFrame, dataFrame, FrameParser, numbers } from "./spdy/frames.ts";
import { Opcode, SpdyClientBytes, webSocketFrame, webSocketRequest } from "./testing/client-bytes.ts";
import { deafPort, type EchoServer, startEchoServer } from "./testing/echo-server.ts";
import { exchange } from "./testing/exchange.ts";

const waiting = { timeout: 10_000, interval: 5 };
let server: EchoServer;
beforeAll(async () => {
  server = await startEchoServer();
});
afterAll(() => server[Symbol.asyncDispose]());

/** A session of the given protocol in which the client sends the bytes. */
async function session(path: string, protocol: string, bytes: readonly Buffer[]): Promise<Seen> {
  const { head, body } = await exchange(server.port, webSocketRequest(path, protocol), bytes);
  return { head, frames: [...frames(body)] };
}

interface Seen {
  readonly head: string;
  readonly frames: readonly { readonly opcode: number; readonly payload: Buffer }[];
}

function* frames(bytes: Buffer): Generator<{ opcode: number; payload: Buffer }> {
  for (let at = 0; at < bytes.length; ) {
    const [first = 0, second = 0] = bytes.subarray(at);
    expect(first & 0xf0, "unfragmented frames, no extension bits").toBe(0x80);
    const [start, length] = second < 126 ? [at + 2, second] : [at + 4, bytes.readUInt16BE(at + 2)];
    at = start + length;
    yield { opcode: first & 15, payload: bytes.subarray(start, at) };
  }
}

const masked = (hex: string) => Buffer.from(hex.replaceAll(" ", ""), "hex");
/** The bytes carried by a channel, in order. */
const carried = ({ frames }: Seen, channel: number) =>
  Buffer.concat(
    frames
      .filter(({ opcode, payload }) => opcode !== Opcode.close && payload[0] === channel)
      .map(({ payload }) => payload.subarray(1)),
  ).toString("latin1");
const text = ({ frames }: Seen, channel: string) =>
  frames
    .filter(({ opcode, payload }) => opcode === Opcode.text && payload.toString("latin1", 0, 1) === channel)
    .map(({ payload }) => Buffer.from(payload.toString("latin1", 1), "base64").toString())
    .join("");

describe("exec", () => {
  test("v5: the second byte after 255 names the channel that closes", async () => {
    // Channel 0, "hi"; then 255 0: stdin ends.
    const seen = await session(server.exec(), "v5.channel.k8s.io", [
      masked("82 83 37fa213d 37 92 48"),
      masked("82 82 37fa213d c8 fa"),
    ]);
    expect(seen.head).toContain("Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n");
    expect(seen.frames.slice(0, 3).map(({ payload }) => payload.toString("hex"))).toEqual(["01", "02", "03"]);
    expect([carried(seen, 1), carried(seen, 2)]).toEqual(["hi", "end"]);
    expect(JSON.parse(carried(seen, 3))).toMatchObject({ status: "Success" });
    expect(seen.frames.at(-1)).toMatchObject({ opcode: Opcode.close, payload: Buffer.from([0x03, 0xe8]) });
    expect(seen.frames.at(-2)?.payload[0], "the status comes last").toBe(3);
  });

  test("v4: channels cannot be closed, 255 is ignored, and the status contains the exit code", async () => {
    const seen = await session(server.exec(), "v4.channel.k8s.io", [
      masked("82 82 37fa213d c8 fa"),
      masked("82 84 00000000 00 68 69 04"),
    ]);
    expect(carried(seen, 1)).toBe("hi");
    expect(JSON.parse(carried(seen, 3))).toMatchObject({
      status: "Failure",
      reason: "NonZeroExitCode",
      details: { causes: [{ reason: "ExitCode", message: "7" }] },
    });
  });

  test.each(["channel.k8s.io", ""])("v1 (%j): a failure is plain text", async (protocol) => {
    const seen = await session(server.exec(), protocol, [masked("82 82 00000000 00 04")]);
    expect(seen.head.includes("Sec-WebSocket-Protocol")).toBe(protocol !== "");
    expect(carried(seen, 3)).toBe("command terminated with non-zero exit code: exit status 7");
  });

  test.each([
    ["base64.channel.k8s.io", "command terminated"],
    ["v4.base64.channel.k8s.io", '"NonZeroExitCode"'],
  ])("%s: a digit, then the bytes as text", async (protocol, outcome) => {
    // "0aGkE": channel 0, "hi" and the end of input.
    const seen = await session(server.exec(), protocol, [masked("81 85 00000000 30 61 47 6b 45")]);
    expect(seen.frames.slice(0, 3).map(({ payload }) => payload.toString())).toEqual(["1", "2", "3"]);
    expect([text(seen, "1"), text(seen, "2")]).toEqual(["hi", "end"]);
    expect(text(seen, "3")).toContain(outcome);
  });

  test("a message in fragments, with a ping between them, is one message", async () => {
    const seen = await session(server.exec(), "v5.channel.k8s.io", [
      masked("02 82 00000000 00 68"),
      masked("89 82 00000000 70 71"),
      masked("80 81 00000000 69"),
      masked("82 82 00000000 ff 00"),
    ]);
    expect(carried(seen, 1)).toBe("hi");
    expect(seen.frames).toContainEqual({ opcode: Opcode.pong, payload: Buffer.from("pq") });
  });

  test("sizes reach the terminal, even those sent before the process starts", async () => {
    const resize = (size: string) => webSocketFrame(Opcode.binary, Buffer.from(`\x04${size}`));
    await session(server.exec({ tty: true, stderr: false }), "v5.channel.k8s.io", [
      Buffer.concat([resize('{"Width":101,"Height":31}'), resize('{"Width":102,'), resize('"Height":32}')]),
      resize('{"Width":-1,"Height":7}{"Width":103,"Height":33}'),
      masked("82 82 00000000 ff 00"),
    ]);
    expect(server.sizes).toContain("102x32");
    expect(server.sizes.at(-1)).toBe("103x33");
  });

  test("a client that is paused because its process does not read gets regular pongs", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    onTestFinished(() => void vi.useRealTimers());
    const client = connect(server.port, "127.0.0.1").on("error", () => undefined);
    onTestFinished(() => void client.destroy());
    client.write(webSocketRequest(server.exec(), "v4.channel.k8s.io"));
    await once(client, "data");
    client.pause().write(webSocketFrame(Opcode.binary, Buffer.alloc(12 << 20)));
    await vi.waitUntil(() => vi.getTimerCount() > 0, waiting);
    vi.advanceTimersByTime(5_000);
    const received: Buffer[] = [];
    client.on("data", (part: Buffer) => received.push(part)).resume();
    const pong = Buffer.from([0x80 | Opcode.pong, 0]);
    await vi.waitUntil(() => Buffer.concat(received).includes(pong), waiting);
    client.destroy();
    await expect.poll(() => server.open.size).toBe(0);
    expect(vi.getTimerCount(), "no more pongs are sent").toBe(0);
  });

  test("a process gets the last two sizes sent before its start: kubectl attach forces a redraw", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    server.held.until = promise;
    onTestFinished(() => resolve());
    const path = server.exec({ tty: true, stderr: false });
    const client = new WebSocket(`ws://127.0.0.1:${server.port}${path}`, "v4.channel.k8s.io");
    await once(client, "open");
    for (const size of ['{"Width":1,"Height":1}', '{"Width":91,"Height":31}', '{"Width":90,"Height":30}'])
      client.send(Buffer.from(`\x04${size}`));
    client.ping();
    await once(client, "pong");
    const before = server.sizes.length;
    resolve();
    await expect.poll(() => server.sizes.slice(before)).toEqual(["91x31", "90x30"]);
    client.terminate();
  });

  const [input, close] = [
    webSocketFrame(Opcode.binary, Buffer.alloc(100_000)),
    webSocketFrame(Opcode.close, masked("03e8")),
  ];
  const bytes = 99_999;

  test.each(["v4.channel.k8s.io", "channel.k8s.io", ""])(
    "%j cannot signal the end of input: a close ends the input, and the process keeps running",
    async (protocol) => {
      await session(server.exec(), protocol, [Buffer.concat([input, close])]);
      await expect.poll(() => server.open.size).toBe(0);
      expect(server.ends.at(-1)).toEqual({ bytes, exitCode: 0 });
    },
  );

  test.each([
    ["a v5 client that closes", "v5.channel.k8s.io", {}, [input, close]],
    ["a v4 client with a terminal that closes", "v4.channel.k8s.io", { tty: true, stderr: false }, [input, close]],
    ["a client that disconnects without closing", "v4.channel.k8s.io", {}, [input]],
    [
      "a client that violates the protocol, and then closes",
      "v4.channel.k8s.io",
      {},
      [input, masked("83 81 00000000 00"), close],
    ],
  ])("%s ends its process", async (_, protocol, streams, messages) => {
    await session(server.exec(streams), protocol, messages);
    await expect.poll(() => server.open.size).toBe(0);
    expect(server.ends.at(-1)?.exitCode).toBeUndefined();
  });

  test.each([
    ["an unmasked frame", masked("82 01 00"), 1002],
    ["a reserved bit", masked("c2 81 00000000 00"), 1002],
    ["an unknown opcode", masked("83 81 00000000 00"), 1002],
    ["a message of more than 32 MiB", masked("82 ff 0000000002000001 00000000"), 1009],
    ["a ping of 126 bytes", masked("89 fe 007e 00000000"), 1002],
  ])("%s closes the session with its code", async (_, bytes, code) => {
    const seen = await session(server.exec(), "v5.channel.k8s.io", [bytes]);
    const close = seen.frames.find(({ opcode }) => opcode === Opcode.close);
    expect(close?.payload.readUInt16BE()).toBe(code);
    await expect.poll(() => server.open.size).toBe(0);
  });
});

test.each(["v5.channel.k8s.io", "v4.channel.k8s.io"])(
  "attach, %s: data sent before the client closed is delivered",
  async (protocol) => {
    const piece = webSocketFrame(Opcode.binary, Buffer.alloc(200_000));
    const close = webSocketFrame(Opcode.close, masked("03e8"));
    await session(server.attach(), protocol, [Buffer.concat([piece, piece, close])]);
    await expect.poll(() => server.open.size).toBe(0);
    expect(server.ends.at(-1)?.bytes).toBe(399_998);
  },
);

describe("port-forward", () => {
  test("v4: each port has two channels that begin with the port; the last to end closes the session", async () => {
    const seen = await session(server.forward([8080, 1]), "v4.channel.k8s.io", [masked("82 83 00000000 00 68 69")]);
    expect(carried(seen, 0)).toBe("\x90\x1fhi");
    expect(carried(seen, 2)).toBe("\x01\x00");
    expect(carried(seen, 3)).toBe("\x01\x00Nothing listens on port 1 of the pod.");
    await expect.poll(() => server.open.size).toBe(0);
  });

  test("v4: a port whose server reads nothing blocks the others for half a minute, then is closed", async () => {
    const client = connect(server.port, "127.0.0.1").on("error", () => undefined);
    onTestFinished(() => void client.destroy());
    const received: Buffer[] = [];
    client.on("data", (part: Buffer) => received.push(part));
    client.write(webSocketRequest(server.forward([deafPort, 8080]), "v4.channel.k8s.io"));
    await once(client, "data");
    await vi.waitUntil(() => server.open.size === 2, waiting);
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const message = (channel: number, bytes: Buffer) =>
      webSocketFrame(Opcode.binary, Buffer.concat([Buffer.from([channel]), bytes]));
    client.write(message(0, Buffer.alloc(512 << 10)));
    await vi.waitUntil(() => vi.getTimerCount() > 0, waiting);
    client.write(message(2, Buffer.from("hi")));
    vi.advanceTimersByTime(29_000);
    await delay(50);
    expect(Buffer.concat(received).includes("\x02hi")).toBe(false);
    vi.advanceTimersByTime(1_000);
    await vi.waitUntil(() => Buffer.concat(received).includes("\x02hi"), waiting);
    expect(server.open.size).toBe(1);
  });

  test("tunnel: SPDY is carried in binary messages, split anywhere", async () => {
    const client = new SpdyClientBytes();
    const inner = Buffer.concat([
      await client.synStream(1, { streamtype: "error", port: "8080", requestid: "0" }, 1),
      await client.synStream(3, { streamtype: "data", port: "8080", requestid: "0" }),
      dataFrame(3, 2, true),
      Buffer.from("hi"),
      controlFrame(ControlType.ping, 0, numbers(1)),
    ]);
    client.close();
    const messages = [...inner].map((byte) => webSocketFrame(Opcode.binary, Buffer.from([byte])));
    const seen = await session(server.forward([]), "SPDY/3.1+portforward.k8s.io", messages);
    expect(seen.head).toContain("Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n");
    const answer = [...new FrameParser().feed(Buffer.concat(seen.frames.map(({ payload }) => payload)))];
    const data = answer.flatMap((frame) => (frame.kind === "data" && frame.streamId === 3 ? [frame] : []));
    expect(Buffer.concat(data.map(({ bytes }) => bytes)).toString()).toBe("hi");
    expect(data.map(({ fin }) => fin)).toEqual([...data.slice(1).map(() => false), true]);
    expect(answer).toContainEqual({ kind: "ping", id: 1 });
    await expect.poll(() => server.open.size).toBe(0);
  });
});
