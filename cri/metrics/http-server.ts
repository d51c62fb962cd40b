// Serves the figures over HTTP: GET /metrics, and nothing else.
//
// Bounds: connections (`connectionLimit`), a request of each at a time, the time that a request's headers may take and a
// connection may stay without a byte of either side (`silenceMs`). No TLS: whoever sets an address off loopback says that its network may read the figures.

import { once } from "node:events";
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { type Log, logAcceptErrors, messageOf } from "../../native/index.ts";
import { criErrors } from "../errors.ts";
import { formatHostAndPort, type HostAndPort } from "../host-and-port.ts";

// An import of node:http evaluates all that it exports, and with its WebSocket a whole HTTP client: 50 ms of a start.
const { createServer } = process.getBuiltinModule("node:http");

const connectionLimit = 32;
const silenceMs = 10_000;

export interface MetricsServer {
  /** The one that was asked for, or what the system chose for 0. */
  readonly port: number;
  close(): void;
}

export interface Exposition {
  readonly contentType: string;
  text(): Promise<string>;
}

/** Listens on HOST:PORT. Rejects with FailedPrecondition when it is taken or not this host's. */
export async function serveMetrics(address: HostAndPort, figures: Exposition, log: Log): Promise<MetricsServer> {
  const server = createServer({ headersTimeout: silenceMs, keepAliveTimeout: silenceMs, requestTimeout: silenceMs });
  server.maxConnections = connectionLimit;
  server.timeout = silenceMs;
  const answering = new WeakSet<Socket>();
  server.on("request", (request, response) => {
    const { socket } = request;
    // The answers to thousands that came at once would fill the daemon's memory.
    if (answering.has(socket)) return socket.destroy();
    answering.add(socket);
    response.on("close", () => answering.delete(socket));
    const path = request.url?.split("?")[0];
    if (path !== "/metrics") return end(response, 404, "There is /metrics alone.\n");
    if (request.method !== "GET" && request.method !== "HEAD") return end(response, 405, "Only GET is served.\n");
    figures.text().then(
      (text) => end(response, 200, text, figures.contentType),
      (error: unknown) => end(response, 500, `${messageOf(error)}\n`),
    );
  });
  const { host, port } = address;
  try {
    await once(server.listen(port, host), "listening");
  } catch (error) {
    throw criErrors.metricsAddress({ address: formatHostAndPort(address), reason: messageOf(error) }, error);
  }
  logAcceptErrors(server, "the metrics server", log);
  const bound = server.address();
  return {
    port: typeof bound === "object" && bound !== null ? bound.port : port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

function end(response: ServerResponse, status: number, body: string, contentType = "text/plain; charset=utf-8"): void {
  response.on("error", () => undefined);
  response.writeHead(status, { "content-type": contentType }).end(body);
}
