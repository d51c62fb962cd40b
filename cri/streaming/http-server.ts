// The HTTP server behind the URLs of Exec, Attach and PortForward. Source: k8s.io/cri-streaming.
//
// The one-time token in the URL is the protection, against other users of the node and pages in its browsers alike.
// Host and Origin say nothing: kubelet and API server pass on what the user's client or dashboard sent to them.

import { createServer, type IncomingMessage, type Server } from "node:http";
import { type AddressInfo, isIP, type Socket } from "node:net";
import { inHand, messageOf } from "../../native/index.ts";
import type { Pods } from "../../pod/types.ts";
import type { Log } from "../log.ts";
import { Connections } from "./connections.ts";
import { negotiate } from "./negotiate.ts";
import { serveSpdyPortForward, serveSpdySession } from "./serve-spdy.ts";
import {
  acceptWebSocket,
  commandProtocols,
  portProtocols,
  serveWebSocketPortForward,
  serveWebSocketSession,
} from "./serve-websocket.ts";
import { Tokens } from "./tokens.ts";
import type { Wish } from "./wishes.ts";

const spdyCommands = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const spdyPorts = ["portforward.k8s.io"];
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
  const connections = new Connections();
  const server = createServer({ maxHeaderSize: 32 << 10 }, (_, response) => {
    response
      .writeHead(400, { "content-type": "text/plain", connection: "close" })
      .end("This URL wants an upgrade to SPDY/3.1 or WebSocket.\n");
  });
  server.on("connection", (socket: Socket) => connections.admit(socket));
  server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on("error", () => undefined);
    serve(options, tokens, connections, { request, socket, head }).catch((error: unknown) => {
      options.log("warn", `a streaming session broke off: ${messageOf(error)}`);
      socket.destroy();
    });
  });
  const { port } = await listen(server, options);
  const host = isIP(options.address) === 6 ? `[${options.address}]` : options.address;
  return {
    url: (wish) => `http://${host}:${port}/${wish.kind}/${tokens.issue(wish)}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        connections.destroyAll();
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

/** A request for an upgrade; `head` is what came after it. */
interface Upgrade {
  readonly request: IncomingMessage;
  readonly socket: Socket;
  readonly head: Buffer;
}

interface Refusal {
  readonly code: number;
  readonly sentence: string;
  readonly headers?: readonly string[];
}

async function serve(
  { pods }: StreamingOptions,
  tokens: Tokens<Wish>,
  connections: Connections,
  upgrade: Upgrade,
): Promise<void> {
  const { request, socket } = upgrade;
  const refuse = (refusal: Refusal) => {
    socket.write(refusalText(refusal));
    // As soon as the kernel has the answer, whether the client hangs up or not.
    socket.destroySoon();
  };
  if (connections.full)
    return refuse({ code: 429, sentence: "Too many sessions are open.", headers: ["Retry-After: 60"] });
  const wish = redeem(tokens, request);
  if (wish === undefined)
    return refuse({ code: 404, sentence: "There is no such session; a URL works once, within a minute." });
  connections.redeemed(socket);
  socket.once(
    "close",
    inHand("session", () => `${wish.kind} of ${wish.id}`),
  );
  socket.setNoDelay(true);
  socket.setKeepAlive(true, keepAliveMs);
  socket.setTimeout(idleMs, () => socket.destroy());
  const to = (request.headers.upgrade ?? "").toLowerCase();
  const refusal =
    to === "spdy/3.1"
      ? await serveSpdy(pods, wish, upgrade)
      : to === "websocket"
        ? await serveWebSocket(pods, wish, upgrade)
        : { code: 400, sentence: "The upgrade must be to SPDY/3.1 or websocket." };
  if (refusal !== undefined) refuse(refusal);
}

/** The wish behind the request's URL, `/<kind>/<token>`. */
function redeem(tokens: Tokens<Wish>, { url = "" }: IncomingMessage): Wish | undefined {
  const [, kind, token = ""] = url.split("?")[0]?.split("/") ?? [];
  const wish = tokens.redeem(token);
  return wish?.kind === kind ? wish : undefined;
}

async function serveSpdy(pods: StreamingOptions["pods"], wish: Wish, upgrade: Upgrade): Promise<Refusal | undefined> {
  const { request, socket, head } = upgrade;
  const offered = [request.headers["x-stream-protocol-version"] ?? []].flat();
  if (offered.length === 0) return { code: 400, sentence: "The header X-Stream-Protocol-Version is missing." };
  const known = wish.kind === "portforward" ? spdyPorts : spdyCommands;
  const protocol = negotiate(offered, known);
  if (protocol === undefined) {
    const headers = known.map((name) => `X-Accepted-Stream-Protocol-Versions: ${name}`);
    return { code: 403, sentence: "No protocol is common.", headers };
  }
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  if (wish.kind === "portforward")
    await serveSpdyPortForward(socket, head, (port, signal) => pods.portForward(wish.id, port, signal));
  else await serveSpdySession(socket, head, protocol, wish.streams, () => startSession(pods, wish));
  return undefined;
}

async function serveWebSocket(
  pods: StreamingOptions["pods"],
  wish: Wish,
  { request, socket, head }: Upgrade,
): Promise<Refusal | undefined> {
  const offered = [request.headers["sec-websocket-protocol"] ?? []].flat();
  const known = wish.kind === "portforward" ? portProtocols : commandProtocols;
  const protocol = offered.length === 0 ? "" : negotiate(offered, known);
  if (protocol === undefined) return { code: 403, sentence: "No protocol is common." };
  const webSocket = await acceptWebSocket(request, socket, head, protocol);
  if (wish.kind === "portforward") {
    await serveWebSocketPortForward(webSocket, protocol, wish.ports, (port, signal) =>
      pods.portForward(wish.id, port, signal),
    );
  } else await serveWebSocketSession(webSocket, protocol, wish.streams, () => startSession(pods, wish));
  return undefined;
}

function startSession(pods: StreamingOptions["pods"], wish: Exclude<Wish, { kind: "portforward" }>) {
  const { stdin, tty } = wish.streams;
  const never = new AbortController().signal;
  return wish.kind === "exec"
    ? pods.exec(wish.id, { command: wish.command, tty, stdin }, never)
    : pods.attach(wish.id, stdin, never);
}

function refusalText({ code, sentence, headers = [] }: Refusal): string {
  const lines = [
    `HTTP/1.1 ${code} Refused`,
    "Connection: close",
    "Content-Type: text/plain",
    `Content-Length: ${sentence.length + 1}`,
    ...headers,
  ];
  return `${lines.join("\r\n")}\r\n\r\n${sentence}\n`;
}
