// Serves the metrics over HTTP: GET /metrics, and nothing else.
//
// Bounds: connections (`connectionLimit`), one request per connection at a time, and the time for a request's headers
// and for an idle connection (`silenceMs`). No TLS: an administrator who sets an address other than loopback exposes
// the metrics to its network.

import { once } from "node:events";
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { type Log, logAcceptErrors, messageOf } from "../../native/index.ts";
import { criErrors } from "../errors.ts";
import { formatHostAndPort, type HostAndPort } from "../host-and-port.ts";

// An import of node:http evaluates all of its exports, including an HTTP client for WebSocket: 50 ms of startup time.
const { createServer } = process.getBuiltinModule("node:http");

const connectionLimit = 32;
const silenceMs = 10_000;

export interface MetricsServer {
  /** The requested port, or the port chosen by the system for 0. */
  readonly port: number;
  close(): void;
}

export interface Exposition {
  readonly contentType: string;
  text(): Promise<string>;
}

/** Listens on HOST:PORT. Rejects with FailedPrecondition if it is in use or not an address of this host. */
export async function serveMetrics(address: HostAndPort, registry: Exposition, log: Log): Promise<MetricsServer> {
  const server = createServer({ headersTimeout: silenceMs, keepAliveTimeout: silenceMs, requestTimeout: silenceMs });
  server.maxConnections = connectionLimit;
  server.timeout = silenceMs;
  const answering = new WeakSet<Socket>();
  server.on("request", (request, response) => {
    const { socket } = request;
    // Responses to thousands of pipelined requests would fill the daemon's memory.
    if (answering.has(socket)) return socket.destroy();
    answering.add(socket);
    response.on("close", () => answering.delete(socket));
    const path = request.url?.split("?")[0];
    if (path !== "/metrics") return end(response, 404, "Only /metrics is served.\n");
    if (request.method !== "GET" && request.method !== "HEAD") return end(response, 405, "Only GET is served.\n");
    registry.text().then(
      (text) => end(response, 200, text, registry.contentType),
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
