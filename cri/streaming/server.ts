// The HTTP server behind the URLs of Exec, Attach and PortForward.
// Source: k8s.io/cri-streaming; facts of its clients in CONTRIBUTING.md.

import { createServer, type IncomingMessage, type Server } from "node:http";
import { type AddressInfo, isIP, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Pods } from "../../pod/types.ts";
import type { Log } from "../log.ts";
import { negotiate } from "./negotiate.ts";
import { serveSpdyPortForward, serveSpdySession } from "./spdy-client.ts";
import { Tokens } from "./tokens.ts";
import {
  acceptWebSocket,
  commandProtocols,
  portProtocols,
  serveWebSocketPortForward,
  serveWebSocketSession,
} from "./websocket-client.ts";
import type { Wish } from "./wishes.ts";

const spdyCommands = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const spdyPorts = ["portforward.k8s.io"];
/** Sessions at once; more are told to come again. */
const maxSessions = 1000;
/** A session on which no byte moves for this long is over, milliseconds. */
const idleMs = 4 * 60 * 60 * 1000;
/** A client's host that is gone is noticed when it has been silent this long and ten probes, one a second, fail. */
const keepAliveMs = 30_000;

export interface StreamingServer {
  /** The URL that fulfils the wish, once, within a minute. */
  url(wish: Wish): string;
  close(): Promise<void>;
}

export interface StreamingOptions {
  readonly pods: Pick<Pods, "exec" | "attach" | "portForward">;
  readonly log: Log;
  /** An address of this host; kubelets dial it. */
  readonly address: string;
  /** 0 for any that is free. */
  readonly port: number;
}

export async function startStreamingServer(options: StreamingOptions): Promise<StreamingServer> {
  const tokens = new Tokens<Wish>(() => performance.now());
  const sessions = new Set<Duplex>();
  const server = createServer(
    { requestTimeout: 30_000, headersTimeout: 10_000, maxHeaderSize: 32 << 10 },
    (_, response) => {
      response
        .writeHead(400, { "content-type": "text/plain", connection: "close" })
        .end("This URL wants an upgrade to SPDY/3.1 or WebSocket.\n");
    },
  );
  server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on("error", () => undefined);
    if (sessions.size >= maxSessions) {
      refuse(socket, 429, "Too many sessions are open.", ["Retry-After: 60"]);
      return;
    }
    sessions.add(socket);
    socket.once("close", () => sessions.delete(socket));
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
    socket.setTimeout(idleMs, () => socket.destroy());
    serve(options, tokens, request, socket, head).catch((error: unknown) => {
      options.log("warn", `a streaming session broke off: ${error instanceof Error ? error.message : String(error)}`);
      socket.destroy();
    });
  });
  const { port } = await listen(server, options);
  const host = isIP(options.address) === 6 ? `[${options.address}]` : options.address;
  return {
    url: (wish) => `http://${host}:${port}/${wish.kind}/${tokens.issue(wish)}`,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sessions) socket.destroy();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function listen(server: Server, { address, port }: StreamingOptions): Promise<AddressInfo> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, address, resolve);
  });
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new TypeError("an HTTP server without an address");
  return bound;
}

async function serve(
  options: StreamingOptions,
  tokens: Tokens<Wish>,
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): Promise<void> {
  if (!isOfThisHost(request, options.address))
    return refuse(socket, 403, "The Host or Origin of the request is not this server's.");
  const [, kind, token = ""] = (request.url ?? "").split("?")[0]?.split("/") ?? [];
  const wish = tokens.redeem(token);
  if (wish === undefined || wish.kind !== kind)
    return refuse(socket, 404, "There is no such session; a URL works once, within a minute.");
  const upgrade = (request.headers.upgrade ?? "").toLowerCase();
  if (upgrade === "spdy/3.1") return await serveSpdy(options, wish, request, socket, head);
  if (upgrade === "websocket") return await serveWebSocket(options, wish, request, socket, head);
  return refuse(socket, 400, "The upgrade must be to SPDY/3.1 or websocket.");
}

async function serveSpdy(
  { pods }: StreamingOptions,
  wish: Wish,
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): Promise<void> {
  const offered = [request.headers["x-stream-protocol-version"] ?? []].flat();
  if (offered.length === 0) {
    refuse(socket, 400, "The header X-Stream-Protocol-Version is missing.");
    return;
  }
  const known = wish.kind === "portforward" ? spdyPorts : spdyCommands;
  const protocol = negotiate(offered, known);
  if (protocol === undefined) {
    return refuse(
      socket,
      403,
      "No protocol is common.",
      known.map((name) => `X-Accepted-Stream-Protocol-Versions: ${name}`),
    );
  }
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  if (wish.kind === "portforward") {
    return await serveSpdyPortForward(socket, head, (port, signal) => pods.portForward(wish.id, port, signal));
  }
  await serveSpdySession(socket, head, protocol, wish.streams, () => startSession(pods, wish));
}

async function serveWebSocket(
  { pods }: StreamingOptions,
  wish: Wish,
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): Promise<void> {
  const offered = [request.headers["sec-websocket-protocol"] ?? []].flat();
  const known = wish.kind === "portforward" ? portProtocols : commandProtocols;
  const protocol = offered.length === 0 ? "" : negotiate(offered, known);
  if (protocol === undefined) {
    refuse(socket, 403, "No protocol is common.");
    return;
  }
  const webSocket = await acceptWebSocket(request, socket, head, protocol);
  if (wish.kind === "portforward") {
    return await serveWebSocketPortForward(webSocket, protocol, wish.ports, (port, signal) =>
      pods.portForward(wish.id, port, signal),
    );
  }
  await serveWebSocketSession(webSocket, protocol, wish.streams, () => startSession(pods, wish));
}

function startSession(pods: StreamingOptions["pods"], wish: Exclude<Wish, { kind: "portforward" }>) {
  const { stdin, tty } = wish.streams;
  const never = new AbortController().signal;
  return wish.kind === "exec"
    ? pods.exec(wish.id, { command: wish.command, tty, stdin }, never)
    : pods.attach(wish.id, stdin, never);
}

/** Against pages that resolve a name of theirs to this address: Host and Origin must name this host itself. */
function isOfThisHost({ headers }: IncomingMessage, address: string): boolean {
  const own = new Set([address, "localhost", "127.0.0.1", "::1"]);
  const isOwn = (url: string) => URL.canParse(url) && own.has(new URL(url).hostname.replace(/^\[|\]$/g, ""));
  return isOwn(`http://${headers.host ?? ""}`) && (headers.origin === undefined || isOwn(headers.origin));
}

function refuse(socket: Duplex, code: number, sentence: string, headers: readonly string[] = []): void {
  const lines = [
    `HTTP/1.1 ${code} Refused`,
    "Connection: close",
    "Content-Type: text/plain",
    `Content-Length: ${sentence.length + 1}`,
    ...headers,
  ];
  socket.end(`${lines.join("\r\n")}\r\n\r\n${sentence}\n`);
}
