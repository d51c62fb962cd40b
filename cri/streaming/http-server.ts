// The HTTP server behind the URLs of Exec, Attach and PortForward. Source: k8s.io/cri-streaming.
//
// The one-time token in the URL protects against other users of the node and against web pages in its browsers.
// Host and Origin are not checked: kubelet and API server pass on what the user's client or dashboard sent to them.

import { once } from "node:events";
import type { IncomingMessage, Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { beginWork, isDoneWithin, type Log, logAcceptErrors, messageOf, type Session } from "../../native/index.ts";
import type { ContainerId, Pods, SandboxId } from "../../pod/types.ts";
import { criErrors } from "../errors.ts";
import { formatHostAndPort } from "../host-and-port.ts";
import { attached } from "./attached.ts";
import { Connections, closeMs } from "./connections.ts";
import { LargeMessages } from "./large-messages.ts";
import type { Streams } from "./remote-command.ts";
import { serveSpdyPortForward, serveSpdySession } from "./serve-spdy.ts";
import {
  acceptWebSocket,
  commandProtocols,
  portProtocols,
  serveWebSocketPortForward,
  serveWebSocketSession,
} from "./serve-websocket.ts";
import { Tokens } from "./tokens.ts";

// An import of node:http evaluates all of its exports, including an HTTP client for WebSocket: 50 ms of startup time.
const { createServer } = process.getBuiltinModule("node:http");

const spdyCommands = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const spdyPorts = ["portforward.k8s.io"];
/** Sessions that transfer no data for this long are ended. */
const idleHours = 4;
const idleMs = idleHours * 60 * 60 * 1000;
/** How long sessions may take to notify their clients that the server is stopping, milliseconds. */
const stopMs = 500;
/**
 * TCP keep-alive: idle this long, then ten probes a second apart; a client host that answers none is considered dead.
 */
const keepAliveMs = 30_000;

/** The target of a streaming URL. */
export type StreamTarget =
  | { readonly kind: "exec"; readonly id: ContainerId; readonly command: readonly string[]; readonly streams: Streams }
  /** `inputStays`: the container's stdin stays open after a client's has ended. */
  | { readonly kind: "attach"; readonly id: ContainerId; readonly streams: Streams; readonly inputStays: boolean }
  | { readonly kind: "portforward"; readonly id: SandboxId; readonly ports: readonly number[] };

export interface StreamingServer {
  /** A single-use URL of the target, valid for a minute. */
  url(target: StreamTarget): string;
  close(): Promise<void>;
}

export interface StreamingOptions {
  readonly pods: Pick<Pods, "exec" | "attach" | "portForward">;
  readonly log: Log;
  /** An address of this host; kubelets dial it. */
  readonly address: string;
  /** 0 for any free port. */
  readonly port: number;
}

/** Rejects with FailedPrecondition if the port is in use, or the address is not one of this host. */
export async function startStreamingServer(options: StreamingOptions): Promise<StreamingServer> {
  const tokens = new Tokens<StreamTarget>(() => performance.now());
  const connections = new Connections();
  const largeMessages = new LargeMessages();
  const server = createServer({ maxHeaderSize: 32 << 10 }, (_, response) => {
    response
      .writeHead(400, { "content-type": "text/plain", connection: "close" })
      .end("This URL requires an upgrade to SPDY/3.1 or WebSocket.\n");
  });
  server.on("connection", (socket: Socket) => connections.admit(socket));
  server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on("error", () => undefined);
    serve(options, tokens, { connections, largeMessages }, { request, socket, head }).catch((error: unknown) => {
      options.log("warn", "streaming session failed", { error: messageOf(error) });
      socket.destroy();
    });
  });
  const { port } = await listen(server, options);
  logAcceptErrors(server, "the streaming server", options.log);
  const authority = formatHostAndPort({ host: options.address, port });
  return {
    url: (target) => `http://${authority}/${target.kind}/${tokens.issue(target)}`,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      connections.end();
      if (!(await isDoneWithin(closed, stopMs))) connections.destroyAll();
      await closed;
    },
  };
}

async function listen(server: Server, { address, port }: StreamingOptions): Promise<AddressInfo> {
  try {
    await once(server.listen(port, address), "listening");
  } catch (error) {
    throw criErrors.streamingAddress(
      { address: formatHostAndPort({ host: address, port }), reason: messageOf(error) },
      error,
    );
  }
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new TypeError("an HTTP server without an address");
  return bound;
}

/** A request for an upgrade; `head` is the data received after it. */
interface Upgrade {
  readonly request: IncomingMessage;
  readonly socket: Socket;
  readonly head: Buffer;
}

/** The limits shared by all sessions. */
interface Bounds {
  readonly connections: Connections;
  readonly largeMessages: LargeMessages;
}

interface Refusal {
  readonly code: number;
  readonly sentence: string;
  readonly headers?: readonly string[];
}

async function serve(
  { pods }: StreamingOptions,
  tokens: Tokens<StreamTarget>,
  { connections, largeMessages }: Bounds,
  upgrade: Upgrade,
): Promise<void> {
  const { request, socket } = upgrade;
  const refuse = (refusal: Refusal) => {
    socket.write(refusalText(refusal));
    // Closes as soon as the kernel has the response, without waiting for the client.
    socket.destroySoon();
  };
  if (connections.full)
    return refuse({ code: 429, sentence: "Too many sessions are open.", headers: ["Retry-After: 60"] });
  const target = redeem(tokens, request);
  if (target === undefined)
    return refuse({ code: 404, sentence: "No such session; a URL can be used once, within a minute." });
  const { kind } = target;
  const ending = new AbortController();
  // Port-forward has no channel for a final status.
  if (kind === "portforward") ending.signal.addEventListener("abort", () => socket.destroy());
  connections.authenticated(socket, () => ending.abort(criErrors.stopping({ method: kind })));
  socket.once(
    "close",
    beginWork("session", () => `${kind} of ${target.id}`),
  );
  socket.setNoDelay(true);
  socket.setKeepAlive(true, keepAliveMs);
  socket.setTimeout(idleMs, () => {
    ending.abort(criErrors.sessionIdle({ kind, hours: idleHours }));
    socket.setTimeout(closeMs, () => socket.destroy());
  });
  const to = (request.headers.upgrade ?? "").toLowerCase();
  const refusal =
    to === "spdy/3.1"
      ? await serveSpdy(pods, target, upgrade, ending.signal)
      : to === "websocket"
        ? await serveWebSocket(pods, target, upgrade, largeMessages, ending.signal)
        : { code: 400, sentence: "The upgrade must be to SPDY/3.1 or websocket." };
  if (refusal !== undefined) refuse(refusal);
}

/** The target behind the request's URL, `/<kind>/<token>`. */
function redeem(tokens: Tokens<StreamTarget>, { url = "" }: IncomingMessage): StreamTarget | undefined {
  const [, kind, token = ""] = url.split("?")[0]?.split("/") ?? [];
  const target = tokens.redeem(token);
  return target?.kind === kind ? target : undefined;
}

async function serveSpdy(
  pods: StreamingOptions["pods"],
  target: StreamTarget,
  upgrade: Upgrade,
  ending: AbortSignal,
): Promise<Refusal | undefined> {
  const { request, socket, head } = upgrade;
  const offered = [request.headers["x-stream-protocol-version"] ?? []].flat();
  if (offered.length === 0) return { code: 400, sentence: "The header X-Stream-Protocol-Version is missing." };
  const known = target.kind === "portforward" ? spdyPorts : spdyCommands;
  const protocol = negotiate(offered, known);
  if (protocol === undefined) {
    const headers = known.map((name) => `X-Accepted-Stream-Protocol-Versions: ${name}`);
    return { code: 403, sentence: "No common protocol.", headers };
  }
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`,
  );
  if (target.kind === "portforward")
    await serveSpdyPortForward(socket, head, (port, signal) => pods.portForward(target.id, port, signal));
  else {
    const start = () => startSession(pods, target, ending);
    await serveSpdySession(socket, head, protocol, target.streams, start, ending);
  }
  return undefined;
}

async function serveWebSocket(
  pods: StreamingOptions["pods"],
  target: StreamTarget,
  { request, socket, head }: Upgrade,
  largeMessages: LargeMessages,
  ending: AbortSignal,
): Promise<Refusal | undefined> {
  const offered = [request.headers["sec-websocket-protocol"] ?? []].flat();
  const known = target.kind === "portforward" ? portProtocols : commandProtocols;
  const protocol = offered.length === 0 ? "" : negotiate(offered, known);
  if (protocol === undefined) return { code: 403, sentence: "No common protocol." };
  const webSocket = await acceptWebSocket(request, socket, head, protocol, largeMessages);
  // ws has removed the timeout.
  socket.setTimeout(idleMs);
  if (target.kind === "portforward") {
    await serveWebSocketPortForward(webSocket, protocol, target.ports, (port, signal) =>
      pods.portForward(target.id, port, signal),
    );
  } else {
    const start = () => startSession(pods, target, ending);
    await serveWebSocketSession(webSocket, protocol, target, start, ending);
  }
  return undefined;
}

async function startSession(
  pods: StreamingOptions["pods"],
  target: Exclude<StreamTarget, { kind: "portforward" }>,
  ending: AbortSignal,
): Promise<Session> {
  const { stdin, tty } = target.streams;
  if (target.kind === "exec") return await pods.exec(target.id, { command: target.command, tty, stdin }, ending);
  return attached(await pods.attach(target.id, stdin, ending), stdin && target.inputStays);
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

/**
 * The first of the client's protocols that the server knows. `offered`: header values, each may be a comma-separated
 * list.
 */
export function negotiate(offered: readonly string[], known: readonly string[]): string | undefined {
  return offered
    .flatMap((value) => value.split(","))
    .map((name) => name.trim())
    .find((name) => known.includes(name));
}
