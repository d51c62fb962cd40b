// For tests: an HTTP proxy that forwards every host name to one server.

import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import { connect, type Socket } from "node:net";
import { listenOnLoopback } from "./listen.ts";

export interface TestProxy {
  readonly address: string;
  /** The requests: `CONNECT name:443`, `GET http://name/path`. */
  readonly asked: readonly string[];
  /** The Proxy-Authorization of each request. */
  readonly credentials: readonly (string | undefined)[];
  stop(): Promise<void>;
}

export interface TestProxyOptions {
  /** Unless 200, the answer to every request; with 0, there is no answer. */
  readonly status?: number;
  /** When absent, the proxy is accessed by plain http. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer };
}

export async function startProxy(target: string, { status = 200, tls }: TestProxyOptions = {}): Promise<TestProxy> {
  const asked: string[] = [];
  const credentials: (string | undefined)[] = [];
  const sockets = new Set<Socket>();
  const [host = "", port] = target.split(":");
  const note = (request: http.IncomingMessage) => {
    asked.push(`${request.method} ${request.url}`);
    credentials.push(request.headers["proxy-authorization"]);
  };
  const server = tls === undefined ? http.createServer() : https.createServer(tls);
  server.on("request", (request: http.IncomingMessage, response: http.ServerResponse) => {
    note(request);
    if (status === 0) return;
    if (status !== 200) {
      response.writeHead(status).end();
      return;
    }
    const { pathname, search } = new URL(request.url ?? "");
    const { "proxy-authorization": _, ...headers } = request.headers;
    const { method } = request;
    const forwarded = http.request({ method, host, port, path: pathname + search, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    forwarded.on("error", () => response.destroy()).end();
  });
  server.on("connect", (request, socket) => {
    note(request);
    if (status === 0) return;
    if (status !== 200) {
      socket.end(`HTTP/1.1 ${status} No\r\n\r\n`);
      return;
    }
    const through = connect({ host, port: Number(port) }, () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      through.pipe(socket).pipe(through);
    });
    sockets.add(through);
    for (const end of [through, socket]) end.on("error", () => through.destroy());
  });
  server.on("connection", (socket) => sockets.add(socket));
  const ownPort = await listenOnLoopback(server);
  return {
    address: `127.0.0.1:${ownPort}`,
    asked,
    credentials,
    stop: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
  };
}
