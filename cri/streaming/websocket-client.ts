// Exec, attach and port-forward over WebSocket: channels as the first byte of a message, and the tunnel for SPDY.
// Source: k8s.io/apiserver pkg/util/wsstream; KEP-4006 (v5.channel.k8s.io and tunnelling).

import type { IncomingMessage } from "node:http";
import { type Duplex, PassThrough, Readable, Writable } from "node:stream";
import { createWebSocketStream, type WebSocket, WebSocketServer } from "ws";
import type { Session } from "../../native/index.ts";
import { type ClientStreams, ResizeReader, serveSession } from "./remote-command.ts";
import { serveSpdyPortForward } from "./spdy-client.ts";
import type { Streams } from "./wishes.ts";

const channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;
/** v5: this message closes the channel that its second byte names. */
const closeMark = 255;
const maxMessageBytes = 1 << 20;
const maxPiece = 32 << 10;
const closeMs = 10_000;

export const commandProtocols = [
  "v5.channel.k8s.io",
  "v4.channel.k8s.io",
  "v4.base64.channel.k8s.io",
  "channel.k8s.io",
  "base64.channel.k8s.io",
];
export const tunnelProtocol = "SPDY/3.1+portforward.k8s.io";
export const portProtocols = [tunnelProtocol, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

/** The handshake; `protocol` is what was negotiated, "" when the client named none. */
export async function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocol: string,
): Promise<WebSocket> {
  // ws takes no slash in a protocol's name, and SPDY/3.1+portforward.k8s.io has one: negotiated here, told here.
  delete request.headers["sec-websocket-protocol"];
  const server = new WebSocketServer({ noServer: true, maxPayload: maxMessageBytes, perMessageDeflate: false });
  if (protocol !== "") server.on("headers", (headers) => headers.push(`Sec-WebSocket-Protocol: ${protocol}`));
  return await new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("the client hung up during the handshake")));
    server.handleUpgrade(request, socket, head, resolve);
  });
}

export async function serveWebSocketSession(
  socket: WebSocket,
  protocol: string,
  streams: Streams,
  start: () => Promise<Session>,
): Promise<void> {
  const wire = new ChannelWire(socket, protocol.includes("base64"));
  const input = new Inbound(socket);
  const resize = new PassThrough();
  socket.on("message", (message: Buffer) => {
    const [number, bytes] = wire.decode(message);
    if (number === channel.stdin && streams.stdin) input.deliver(bytes);
    else if (number === channel.resize) resize.write(bytes);
    else if (number === closeMark && bytes[0] === channel.stdin && protocol.startsWith("v5")) input.finish();
  });
  const gone = new Promise<void>((resolve) => {
    socket.once("close", () => resolve());
    socket.once("error", () => resolve());
  });
  gone.then(() => input.finish());

  for (const number of [
    ...(streams.stdout ? [channel.stdout] : []),
    ...(streams.stderr ? [channel.stderr] : []),
    channel.error,
  ]) {
    wire.send(number, Buffer.alloc(0), () => undefined);
  }
  const client: ClientStreams = {
    statusAsJson: protocol.startsWith("v4") || protocol.startsWith("v5"),
    gone,
    ...(streams.stdin ? { stdin: input } : {}),
    ...(streams.stdout ? { stdout: wire.writable(channel.stdout) } : {}),
    ...(streams.stderr ? { stderr: wire.writable(channel.stderr) } : {}),
    onResize: (set) => {
      const reader = new ResizeReader();
      resize.on("data", (bytes: Buffer) => {
        for (const { columns, rows } of reader.feed(bytes)) set(columns, rows);
      });
    },
    sendOutcome: (text) =>
      new Promise((resolve) => {
        if (text === "") {
          resolve();
          return;
        }
        wire.send(channel.error, Buffer.from(text), () => resolve());
      }),
  };
  await serveSession(start, client);
  await closeWebSocket(socket);
}

/** Ports as channel pairs: 2i carries bytes, 2i+1 errors; each begins with its port, two bytes little-endian. */
export async function serveWebSocketPortForward(
  socket: WebSocket,
  protocol: string,
  ports: readonly number[],
  connect: (port: number, signal: AbortSignal) => Promise<Duplex>,
): Promise<void> {
  if (protocol === tunnelProtocol)
    return await serveSpdyPortForward(createWebSocketStream(socket), Buffer.alloc(0), connect);
  const wire = new ChannelWire(socket, protocol.includes("base64"));
  const ended = new AbortController();
  const gone = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const inputs = ports.map(() => new Inbound(socket));
  socket.on("message", (message: Buffer) => {
    const [number, bytes] = wire.decode(message);
    if (number % 2 === 0) inputs[number / 2]?.deliver(bytes);
  });
  socket.on("error", () => undefined);
  for (const [index, port] of ports.entries()) {
    const announcement = Buffer.from([port & 255, port >> 8]);
    for (const number of [index * 2, index * 2 + 1]) wire.send(number, announcement, () => undefined);
    connect(port, ended.signal).then(
      (connection) => {
        connection.on("error", () => undefined);
        connection.pipe(wire.writable(index * 2));
        inputs[index]?.pipe(connection);
        gone.then(() => connection.destroy());
      },
      (error: unknown) =>
        wire.send(index * 2 + 1, Buffer.from(error instanceof Error ? error.message : String(error)), () => undefined),
    );
  }
  await gone;
  ended.abort();
}

async function closeWebSocket(socket: WebSocket): Promise<void> {
  if (socket.readyState === socket.CLOSED) return;
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.close(1000);
  const timer = setTimeout(() => socket.terminate(), closeMs);
  await closed;
  clearTimeout(timer);
}

/** Messages of one channel each; base64 forms carry the channel as a digit and the bytes as text. */
class ChannelWire {
  readonly #socket: WebSocket;
  readonly #base64: boolean;

  constructor(socket: WebSocket, base64: boolean) {
    this.#socket = socket;
    this.#base64 = base64;
  }

  decode(message: Buffer): [number: number, bytes: Buffer] {
    const first = message[0] ?? 0;
    const rest = message.subarray(1);
    return this.#base64 ? [first - 48, Buffer.from(rest.toString("latin1"), "base64")] : [first, rest];
  }

  send(number: number, bytes: Buffer, done: (error?: Error | null) => void): void {
    if (this.#socket.readyState !== this.#socket.OPEN) {
      done(new Error("the client hung up"));
      return;
    }
    const message = this.#base64
      ? `${number}${bytes.toString("base64")}`
      : Buffer.concat([Buffer.from([number]), bytes]);
    this.#socket.send(message, done);
  }

  writable(number: number): Writable {
    const writable = new Writable({
      highWaterMark: 64 << 10,
      write: (chunk: Buffer, _encoding, done) => this.#pieces(number, chunk, done),
    });
    writable.on("error", () => undefined);
    return writable;
  }

  #pieces(number: number, chunk: Buffer, done: (error?: Error | null) => void): void {
    for (let at = 0; at < chunk.length; at += maxPiece) {
      const last = at + maxPiece >= chunk.length;
      this.send(number, chunk.subarray(at, at + maxPiece), last ? done : () => undefined);
    }
  }
}

/** What the client sends on one channel. A reader that has enough stops the socket, and with it the client. */
class Inbound extends Readable {
  readonly #socket: WebSocket;
  #ended = false;

  constructor(socket: WebSocket) {
    super({ highWaterMark: 256 << 10 });
    this.#socket = socket;
  }

  deliver(bytes: Buffer): void {
    if (this.#ended || this.destroyed || bytes.length === 0) return;
    if (!this.push(bytes)) this.#socket.pause();
  }

  finish(): void {
    if (this.#ended || this.destroyed) return;
    this.#ended = true;
    this.push(null);
  }

  override _read(): void {
    if (this.#socket.isPaused) this.#socket.resume();
  }
}
