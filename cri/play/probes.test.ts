// Probes over HTTP and TCP against servers of this test; exec probes are tested in pod-worker.test.ts.

import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { afterEach, expect, test } from "vitest";
import { probe } from "./probes.ts";
import type { Container } from "./supported.ts";

type Probe = NonNullable<Container["livenessProbe"]>;

const open: { close(): unknown }[] = [];
afterEach(() => {
  for (const server of open.splice(0)) server.close();
});

async function http(listener: RequestListener): Promise<number> {
  const server = createServer(listener).listen(0, "127.0.0.1");
  open.push({
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  });
  await once(server, "listening");
  return portOf(server.address());
}

function portOf(address: string | AddressInfo | null): number {
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** Runs one attempt: whether it was healthy, and what was reported. */
async function ask(spec: Probe, container: Partial<Container> = {}): Promise<{ healthy: boolean; detail: string }> {
  const over = new AbortController();
  const answer = Promise.withResolvers<{ healthy: boolean; detail: string }>();
  const livenessProbe = { ...spec, failureThreshold: 1 };
  const events = {
    started: () => undefined,
    ready: () => answer.resolve({ healthy: true, detail: "" }),
    failed: (_: string, detail: string) => answer.resolve({ healthy: false, detail }),
  };
  const target = {
    container: { name: "c", ...container, readinessProbe: livenessProbe },
    containerId: "id",
    podIp: "127.0.0.1",
    environment: new Map(),
  };
  const exec = async () => {
    throw new Error("not asked");
  };
  probe({ execSync: exec }, target, events, over.signal).catch(() => undefined);
  try {
    return await answer.promise;
  } finally {
    over.abort(new Error("asked"));
  }
}

test.each([
  [200, true],
  [204, true],
  [399, true],
  [404, false],
  [500, false],
])("HTTP status %i is healthy: %s", async (statusCode, healthy) => {
  const port = await http((_, response) => response.writeHead(statusCode).end("x"));
  expect(await ask({ httpGet: { port } })).toMatchObject({ healthy });
});

test("HTTP: the path, headers and a port by name", async () => {
  const seen: unknown[] = [];
  const port = await http(({ url, headers }, response) => {
    seen.push(url, headers["x-a"], headers["user-agent"]);
    response.end();
  });
  const httpGet = { port: "web", path: "/healthz?full=1", httpHeaders: [{ name: "X-A", value: "b" }] };
  expect(await ask({ httpGet }, { ports: [{ name: "web", containerPort: port }] })).toMatchObject({ healthy: true });
  expect(seen).toEqual(["/healthz?full=1", "b", "kube-probe/keelson"]);
});

test("HTTP: redirects are followed on the same host up to a limit, and are healthy if they lead to another host", async () => {
  const port = await http(({ url }, response) => {
    const to = { "/a": "/b", "/far": "http://other.example/", "/loop": "/loop" }[url ?? ""];
    if (to === undefined) response.writeHead(url === "/b" ? 500 : 200).end();
    else response.writeHead(302, { location: to }).end();
  });
  expect(await ask({ httpGet: { port, path: "/a" } })).toMatchObject({ healthy: false, detail: "HTTP status 500" });
  expect(await ask({ httpGet: { port, path: "/far" } })).toMatchObject({ healthy: true });
  expect(await ask({ httpGet: { port, path: "/loop" } })).toMatchObject({
    healthy: false,
    detail: "more than 10 redirects",
  });
});

test("HTTP: a server that does not respond, and one whose response never ends", async () => {
  const silent = await http(() => undefined);
  expect(await ask({ httpGet: { port: silent }, timeoutSeconds: 1 })).toEqual({
    healthy: false,
    detail: "no answer within 1 s",
  });
  const endless = await http((_, response) => {
    const more = setInterval(() => response.write("x".repeat(1 << 16)), 1);
    response.on("close", () => clearInterval(more));
  });
  expect(await ask({ httpGet: { port: endless } })).toMatchObject({ healthy: true });
});

test("HTTP: a path without a slash, a header that replaces a default one, another host, and a certificate that is not verified", async () => {
  const seen: unknown[] = [];
  const port = await http(({ url, headers }, response) => {
    seen.push(url, headers["user-agent"], headers.accept);
    response.end();
  });
  const httpHeaders = [
    { name: "user-agent", value: "mine" },
    { name: "ACCEPT", value: "text/plain" },
  ];
  expect(await ask({ httpGet: { port: String(port), path: "a", httpHeaders } })).toMatchObject({ healthy: true });
  expect(seen).toEqual(["/a", "mine", "text/plain"]);
  // Nothing listens on the other addresses of loopback.
  expect(await ask({ httpGet: { port, host: "127.0.0.2" } })).toMatchObject({ healthy: false });
  const server = createTlsServer(selfSigned(), (_, response) => response.end()).listen(0, "127.0.0.1");
  open.push(server);
  await once(server, "listening");
  expect(await ask({ httpGet: { port: portOf(server.address()), scheme: "HTTPS" } })).toMatchObject({ healthy: true });
});

function selfSigned(): { readonly key: string; readonly cert: string } {
  const args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=a -keyout - -out -";
  const both = execFileSync("openssl", args.split(" "), { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return { key: both, cert: both };
}

test("HTTP: a path that looks like another host's is requested from the pod", async () => {
  const seen: unknown[] = [];
  const port = await http(({ url }, response) => {
    seen.push(url);
    response.end();
  });
  for (const path of ["//127.0.0.2/a", "http://127.0.0.2/b"])
    expect(await ask({ httpGet: { port, path } }), path).toMatchObject({ healthy: true });
  expect(seen).toEqual(["//127.0.0.2/a", "/http://127.0.0.2/b"]);
});

test("TCP: an open port and a closed one", async () => {
  const server = createTcpServer().listen(0, "127.0.0.1");
  open.push(server);
  await once(server, "listening");
  const port = portOf(server.address());
  expect(await ask({ tcpSocket: { port } })).toMatchObject({ healthy: true });
  expect(await ask({ tcpSocket: { port, host: "127.0.0.2" } })).toMatchObject({ healthy: false });
  server.close();
  await once(server, "close");
  expect(await ask({ tcpSocket: { port } })).toMatchObject({
    healthy: false,
    detail: expect.stringContaining("ECONNREFUSED"),
  });
});
