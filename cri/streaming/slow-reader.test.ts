// A slow client gets all of the output and the status, even if both are still in kernel buffers.

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { expect, onTestFinished, test, vi } from "vitest";
import { ControlType, controlFrame, dataFrame, FrameParser, numbers } from "./spdy/frames.ts";
import { Opcode, SpdyClientBytes, spdyRequest, webSocketFrame, webSocketRequest } from "./testing/client-bytes.ts";
import { startEchoServer } from "./testing/echo-server.ts";

/** As much as a connection's kernel buffers hold, so that the session ends before anything is read. */
const input = Buffer.alloc(512 << 10, "keelson ");
const pauseMs = 9 * 60 * 1000;

/** Sends `ping` twice after the session ended, at once and after the pause. Returns all that the client reads then. */
async function readLate(upgrade: (path: string) => Buffer, bytes: Buffer, ping: Buffer): Promise<Buffer> {
  await using server = await startEchoServer();
  const client = connect(server.port, "127.0.0.1").on("error", () => undefined);
  onTestFinished(() => void client.destroy());
  const received = await handshake(client, upgrade(server.exec()));
  client.pause();
  vi.useFakeTimers({ toFake: ["setTimeout"] });
  // Before the server is closed, which has its own time limits.
  using _ = { [Symbol.dispose]: () => void vi.useRealTimers() };
  client.write(bytes);
  await vi.waitUntil(() => server.open.size === 0 && vi.getTimerCount() > 0, { timeout: 10_000, interval: 1 });
  client.write(ping);
  await delay(50);
  vi.advanceTimersByTime(pauseMs);
  await delay(50);
  client.write(ping);
  await delay(50);
  client.resume();
  const done = () => client.destroyed || Buffer.concat(received.slice(-3)).includes('"status":"Success"');
  await vi.waitUntil(done, { timeout: 10_000, interval: 10 });
  return Buffer.concat(received);
}

/** The data after the response to the request, as received. */
async function handshake(client: Socket, request: Buffer): Promise<Buffer[]> {
  client.write(request);
  const [answer] = await once(client, "data");
  const received = [answer.subarray(answer.indexOf("\r\n\r\n") + 4)];
  client.on("data", (part: Buffer) => received.push(part));
  return received;
}

test("SPDY", async () => {
  const ids = { error: 1, stdin: 3, stdout: 5, stderr: 7 };
  const bytes = new SpdyClientBytes();
  const streams: Buffer[] = [];
  for (const [streamtype, id] of Object.entries(ids)) streams.push(await bytes.synStream(id, { streamtype }));
  bytes.close();
  const ping = controlFrame(ControlType.ping, 0, numbers(1));
  const read = await readLate(
    (path) => spdyRequest(path, "v4.channel.k8s.io"),
    Buffer.concat([...streams, dataFrame(ids.stdin, input.length, true), input]),
    ping,
  );
  const frames = [...new FrameParser().feed(read)];
  const carried = (id: number) =>
    Buffer.concat(frames.flatMap((frame) => (frame.kind === "data" && frame.streamId === id ? [frame.bytes] : [])));
  expect(carried(ids.stdout).length).toBe(input.length);
  expect(carried(ids.error).toString()).toContain('"Success"');
});

test("WebSocket", async () => {
  const messages: Buffer[] = [];
  for (let at = 0; at < input.length; at += 64 << 10)
    messages.push(webSocketFrame(Opcode.binary, Buffer.concat([Buffer.alloc(1), input.subarray(at, at + (64 << 10))])));
  messages.push(webSocketFrame(Opcode.binary, Buffer.from([255, 0])));
  const read = await readLate(
    (path) => webSocketRequest(path, "v5.channel.k8s.io"),
    Buffer.concat(messages),
    webSocketFrame(Opcode.ping, Buffer.alloc(0)),
  );
  expect(read.length).toBeGreaterThan(input.length);
  expect(read.subarray(-100).toString("latin1")).toContain('"Success"');
});
