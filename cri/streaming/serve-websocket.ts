// Exec, attach and port-forward over WebSocket: the meaning of each channel, and the tunnel for SPDY.
// Source: k8s.io/apiserver pkg/util/wsstream; KEP-4006 (v5.channel.k8s.io and tunnelling).

import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createWebSocketStream, type ServerOptions, type WebSocket, WebSocketServer } from "ws";
import type { Session } from "../../native/index.ts";
import { detach } from "./attached.ts";
import { closeMs } from "./connections.ts";
import { type LargeMessages, maxMessageBytes, usualMessageBytes } from "./large-messages.ts";
import { forwardFailure } from "./port-forward.ts";
import { type ClientStreams, ResizeReader, type Streams, serveSession } from "./remote-command.ts";
import { serveSpdyPortForward } from "./serve-spdy.ts";
import { ChannelWire, Gate, Inbound } from "./websocket-channels.ts";

const channel = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;
/** v5: this message closes the channel named by its second byte. */
const closeMark = 255;
/** The close code of a connection without a close frame (RFC 6455, 7.1.5). */
const closedWithoutWord = 1006;
/** How long one port's slow reader may stall the others, milliseconds. */
const stallMs = 30_000;
/** Pings of a client with more unread bytes than this are not answered. */
const maxUnsent = 1 << 20;

export const commandProtocols = [
  "v5.channel.k8s.io",
  "v4.channel.k8s.io",
  "v4.base64.channel.k8s.io",
  "channel.k8s.io",
  "base64.channel.k8s.io",
];
const tunnelProtocol = "SPDY/3.1+portforward.k8s.io";
export const portProtocols = [tunnelProtocol, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

/** Does the handshake; `protocol` is the negotiated protocol, "" if the client offered none. */
export async function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocol: string,
  largeMessages: LargeMessages,
): Promise<WebSocket> {
  // ws rejects a slash in a protocol's name, and SPDY/3.1+portforward.k8s.io has one, so the header is written here.
  delete request.headers["sec-websocket-protocol"];
  // ws has the option since 8.19; its types do not.
  const options: ServerOptions & { readonly closeTimeout: number } = {
    noServer: true,
    // Tunnelled data consists of SPDY frames, which are buffered elsewhere.
    maxPayload: protocol === tunnelProtocol ? usualMessageBytes : maxMessageBytes,
    perMessageDeflate: false,
    autoPong: false,
    closeTimeout: closeMs,
  };
  const server = new WebSocketServer(options);
  if (protocol !== "") server.on("headers", (headers) => headers.push(`Sec-WebSocket-Protocol: ${protocol}`));
  return await new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("the client hung up during the handshake")));
    server.handleUpgrade(request, socket, head, (webSocket) => {
      webSocket.on("error", () => undefined);
      largeMessages.bound(socket, webSocket);
      webSocket.on("ping", (bytes: Buffer) => {
        if (webSocket.bufferedAmount < maxUnsent) webSocket.pong(bytes);
      });
      resolve(webSocket);
    });
  });
}

export async function serveWebSocketSession(
  socket: WebSocket,
  protocol: string,
  { kind, streams }: { readonly kind: "exec" | "attach"; readonly streams: Streams },
  start: () => Promise<Session>,
  ending: AbortSignal,
): Promise<void> {
  const wire = new ChannelWire(socket, protocol.includes("base64"));
  const input = new Inbound(new Gate(socket, Number.POSITIVE_INFINITY));
  // The first sizes arrive before the process has started. The last two are kept, since `kubectl attach` forces a
  // redraw by sending a size that is too large, followed by the right one.
  const sizes = new ResizeReader();
  let early: { readonly columns: number; readonly rows: number }[] = [];
  let resize = (columns: number, rows: number): void => {
    early = [...early.slice(-1), { columns, rows }];
  };
  socket.on("message", (message: Buffer) => {
    const [number, bytes] = wire.decode(message);
    if (number === channel.stdin && streams.stdin) input.deliver(bytes);
    else if (number === closeMark && bytes[0] === channel.stdin && protocol.startsWith("v5")) input.finish();
    else if (number === channel.resize && streams.tty) {
      for (const { columns, rows } of sizes.feed(bytes)) resize(columns, rows);
    }
  });
  // Input sent before a close is still delivered. For clients before v5 a close is also the only way to end a process's
  // stdin, so the process keeps running without them; with a terminal it is hung up.
  const takesRest = kind === "attach" || (!streams.tty && !protocol.startsWith("v5"));
  const closed = Promise.withResolvers<void>();
  const gone = new Promise<void>((resolve) => {
    socket.once("error", () => resolve());
    socket.once("close", (code) => {
      if (!streams.stdin || !takesRest || code === closedWithoutWord) return resolve();
      input.finish();
      closed.resolve();
    });
  });
  const begin = async (): Promise<Session> => {
    const session = await start();
    if (kind === "attach") closed.promise.then(() => detach(session));
    return session;
  };
  gone.then(() => input.finish());

  for (const number of [
    ...(streams.stdout ? [channel.stdout] : []),
    ...(streams.stderr ? [channel.stderr] : []),
    channel.error,
  ]) {
    wire.send(number, Buffer.alloc(0));
  }
  const client: ClientStreams = {
    statusAsJson: protocol.startsWith("v4") || protocol.startsWith("v5"),
    gone,
    ...(streams.stdin ? { stdin: input } : {}),
    ...(streams.stdout ? { stdout: wire.writable(channel.stdout) } : {}),
    ...(streams.stderr ? { stderr: wire.writable(channel.stderr) } : {}),
    onResize: (set) => {
      resize = set;
      for (const { columns, rows } of early) set(columns, rows);
    },
    sendOutcome: async (text) => {
      if (text === "") return;
      await new Promise<void>((resolve) => wire.send(channel.error, Buffer.from(text), () => resolve()));
    },
  };
  await serveSession(begin, client, ending);
  await closeWebSocket(socket);
}

/** Ports are channel pairs: 2i carries data, 2i+1 errors; each begins with its port, two bytes little-endian. */
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
  const gate = new Gate(socket, stallMs);
  const inputs = ports.map(() => new Inbound(gate));
  socket.on("message", (message: Buffer) => {
    const [number, bytes] = wire.decode(message);
    if (number % 2 === 0) inputs[number / 2]?.deliver(bytes);
  });
  const forwards = inputs.map(async (input, index) => {
    const port = ports[index] ?? 0;
    const announcement = Buffer.from([port & 255, port >> 8]);
    for (const number of [index * 2, index * 2 + 1]) wire.send(number, announcement);
    try {
      const connection = await connect(port, ended.signal);
      gone.then(() => connection.destroy());
      connection.once("close", () => input.destroy());
      input.once("error", () => connection.destroy());
      input.pipe(connection);
      await pipeline(connection, wire.writable(index * 2));
    } catch (error) {
      wire.send(index * 2 + 1, Buffer.from(forwardFailure(error)));
    } finally {
      input.destroy();
    }
  });
  await Promise.race([gone, Promise.allSettled(forwards)]);
  ended.abort();
  await closeWebSocket(socket);
}

/** A client that does not close its side is disconnected by ws after `closeTimeout`. */
async function closeWebSocket(socket: WebSocket): Promise<void> {
  if (socket.readyState === socket.CLOSED) return;
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.close(1000);
  await closed;
}
