// The streaming server's HTTP responses, and SPDY sessions of each protocol byte by byte.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { withItsServers } from "../../native/testing/servers.ts";
import { negotiate } from "./http-server.ts";
import { dataFrame, type Frame, FrameParser, flagFin } from "./spdy/frames.ts";
import {
  Opcode,
  SpdyClientBytes,
  spdyRequest,
  upgradeRequest,
  webSocketFrame,
  webSocketRequest,
} from "./testing/client-bytes.ts";
import { type EchoServer, endOfInput, startEchoServer } from "./testing/echo-server.ts";
import { exchange } from "./testing/exchange.ts";

let server: EchoServer;
beforeAll(async () => {
  server = await startEchoServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const v4 = "v4.channel.k8s.io";
const webSocketLines = ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="];

/** The request with the Host that a remote client dialled, and another header. */
function throughProxy(request: Buffer, host: string, header?: string): Buffer {
  const lines = [`Host: ${host}`, ...(header === undefined ? [] : [header])].join("\r\n");
  return Buffer.from(request.toString("latin1").replace("Host: 127.0.0.1", lines), "latin1");
}

test("accept errors do not stop the server", async () => {
  const [own, servers] = await withItsServers(startEchoServer);
  await using _ = own;
  for (const each of servers) for (let n = 0; n < 2; n += 1) each.emit("error", new Error("accept ENFILE"));
  expect(servers).toHaveLength(1);
  expect((await exchange(own.port, spdyRequest("/exec/x", v4))).head).toMatch(/^HTTP\/1.1 404 /);
});

test.each([
  [["v5.channel.k8s.io", "v4.channel.k8s.io"], "v4.channel.k8s.io"],
  [["channel.k8s.io, v4.channel.k8s.io"], "channel.k8s.io"],
  [["v9"], undefined],
  [[], undefined],
])("of %j the first protocol supported by the server is %s", (offered, chosen) => {
  expect(negotiate(offered, ["v4.channel.k8s.io", "channel.k8s.io"])).toBe(chosen);
});

describe("requests", () => {
  const token = "A".repeat(32);
  const cases: readonly [string, () => Buffer, string][] = [
    ["an unknown token", () => spdyRequest(`/exec/${token}`, v4), "404"],
    ["a token of another kind", () => spdyRequest(server.exec().replace("exec", "attach"), v4), "404"],
    ["no protocol", () => upgradeRequest(server.exec(), "SPDY/3.1", []), "400"],
    ["no common protocol", () => spdyRequest(server.exec(), "v9.channel.k8s.io"), "403"],
    ["no common WebSocket protocol", () => webSocketRequest(server.exec(), "v9.channel.k8s.io"), "403"],
    ["another upgrade", () => upgradeRequest(server.exec(), "h2c", []), "400"],
    ["no upgrade", () => Buffer.from(`GET ${server.exec()} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`), "400"],
    ["headers without end", () => Buffer.from(`GET / HTTP/1.1\r\nX: ${"x".repeat(40_000)}\r\n\r\n`), "431"],
  ];
  test.each(cases)("%s is refused", async (_, request, code) => {
    const { head } = await exchange(server.port, request());
    expect(head).toMatch(new RegExp(`^HTTP/1.1 ${code} `));
  });

  /** DNS rebinding: the page's name resolves to this address, so its browser sends the page's Host and Origin. */
  test("a web page without a token gets a 404, which no browser lets it read", async () => {
    for (const lines of [["Origin: http://evil.example"], []]) {
      const asked = upgradeRequest(`/exec/${token}`, "websocket", [...webSocketLines, ...lines]);
      const { head } = await exchange(server.port, throughProxy(asked, "evil.example"));
      expect(head).toMatch(/^HTTP\/1.1 404 /);
      expect(head).not.toMatch(/access-control/i);
    }
  });

  test("a token works once", async () => {
    const path = server.exec();
    expect((await exchange(server.port, spdyRequest(path, v4))).head).toMatch(/^HTTP\/1.1 101 /);
    expect((await exchange(server.port, spdyRequest(path, v4))).head).toMatch(/^HTTP\/1.1 404 /);
  });

  test("the supported protocols are listed for a client that supports none of them", async () => {
    const { head } = await exchange(server.port, spdyRequest(server.exec(), "v9.channel.k8s.io"));
    const spoken = [...head.matchAll(/^X-Accepted-Stream-Protocol-Versions: (.*)\r$/gm)].map(([, name]) => name);
    expect(spoken).toEqual([v4, "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"]);
  });
});

test("a client that does not open the streams of its exec is disconnected after half a minute", async () => {
  const client = connect(server.port, "127.0.0.1").on("error", () => undefined);
  onTestFinished(() => void client.destroy());
  client.write(spdyRequest(server.exec(), v4));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  await once(client, "data");
  vi.advanceTimersByTime(29_000);
  expect(client.readableEnded).toBe(false);
  vi.advanceTimersByTime(1_000);
  await once(client, "close");
});

test("TCP keep-alive detects a dead client host", async () => {
  const client = connect(server.port, "127.0.0.1").on("error", () => undefined);
  onTestFinished(() => void client.destroy());
  client.write(spdyRequest(server.exec(), v4));
  await once(client, "data");
  const hex = (port = 0) => `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  // Of the server's end; 02 is the keep-alive timer (proc_net_tcp.rst).
  const timer = async () => {
    const rows = (await readFile("/proc/net/tcp", "latin1")).split("\n").map((row) => row.trim().split(/\s+/));
    const ends = ([, own, peer]: string[]) => own?.endsWith(hex(server.port)) && peer?.endsWith(hex(client.localPort));
    return rows.find(ends)?.[5];
  };
  await expect.poll(timer).toMatch(/^02:/);
});

/**
 * Headers that kubelet and API server pass on unchanged: the Host that the user's client dialled, a dashboard's Origin.
 */
describe("requests that came through an API server", () => {
  const proxied = (request: Buffer) => throughProxy(request, "10.0.0.1:6443", "Origin: https://dashboard.example");
  const stdinEnds = webSocketFrame(Opcode.binary, Buffer.from([255, 0]));
  /** Streams 1, 3, 5 … with these headers. */
  const opened = async (streams: readonly Readonly<Record<string, string>>[]): Promise<Buffer> => {
    const client = new SpdyClientBytes();
    const frames: Buffer[] = [];
    for (const [n, headers] of streams.entries()) frames.push(await client.synStream(2 * n + 1, headers));
    client.close();
    return Buffer.concat(frames);
  };

  test.each(["exec", "attach"] as const)("%s over SPDY", async (kind) => {
    const streams = await opened(["error", "stdin", "stdout", "stderr"].map((streamtype) => ({ streamtype })));
    const bytes = [streams, dataFrame(3, 2, true), Buffer.from("hi")];
    const { head, body } = await exchange(server.port, proxied(spdyRequest(server[kind](), v4)), bytes);
    expect(head).toMatch(/^HTTP\/1.1 101 /);
    expect(body.includes("hi")).toBe(true);
  });

  test.each(["exec", "attach"] as const)("%s over WebSocket", async (kind) => {
    const request = proxied(webSocketRequest(server[kind](), "v5.channel.k8s.io"));
    const bytes = [webSocketFrame(Opcode.binary, Buffer.from("\0hi")), stdinEnds];
    const { head, body } = await exchange(server.port, request, bytes);
    expect(head).toMatch(/^HTTP\/1.1 101 /);
    expect(body.includes("hi")).toBe(true);
  });

  test("port-forward over SPDY", async () => {
    const pair = ["error", "data"].map((streamtype) => ({ streamtype, port: "8080", requestid: "0" }));
    const bytes = [await opened(pair), dataFrame(3, 2, true), Buffer.from("hi")];
    const request = proxied(spdyRequest(server.forward([]), "portforward.k8s.io"));
    const { head, body } = await exchange(server.port, request, bytes);
    expect(head).toMatch(/^HTTP\/1.1 101 /);
    expect(body.includes("hi")).toBe(true);
  });

  test("port-forward over WebSocket", async () => {
    const request = proxied(webSocketRequest(server.forward([8080]), "v4.channel.k8s.io"));
    const bytes = [webSocketFrame(Opcode.binary, Buffer.from("\0hi"))];
    const { head, body } = await exchange(server.port, request, bytes);
    expect(head).toMatch(/^HTTP\/1.1 101 /);
    expect(body.includes("hi")).toBe(true);
  });
});

describe("SPDY", () => {
  const ids = { error: 1, stdin: 3, stdout: 5, stderr: 7 };

  async function session(protocol: string, input: Buffer, fin: boolean): Promise<Map<number, string>> {
    const client = new SpdyClientBytes();
    const opened: Buffer[] = [];
    for (const [streamtype, id] of Object.entries(ids))
      opened.push(await client.synStream(id, { streamtype }, streamtype === "error" ? flagFin : 0));
    client.close();
    const bytes = [Buffer.concat(opened), Buffer.concat([dataFrame(ids.stdin, input.length, fin), input])];
    const { head, body } = await exchange(server.port, spdyRequest(server.exec(), protocol), bytes);
    expect(head).toContain(`\r\nX-Stream-Protocol-Version: ${protocol}\r\n`);
    const frames: Frame[] = [...new FrameParser().feed(body)];
    expect(
      frames.filter(({ kind }) => kind === "headers"),
      "a SYN_REPLY each",
    ).toHaveLength(4);
    expect(frames.at(-1), "GOAWAY at the end").toEqual({ kind: "go-away" });
    const carried = new Map<number, string>();
    for (const frame of frames)
      if (frame.kind === "data")
        carried.set(frame.streamId, (carried.get(frame.streamId) ?? "") + frame.bytes.toString());
    return carried;
  }

  test.each(["v4", "v3", "v2"])("%s: stdin half-closes, both outputs are complete", async (version) => {
    const carried = await session(`${version}.channel.k8s.io`, Buffer.from("hi"), true);
    expect([carried.get(ids.stdout), carried.get(ids.stderr)]).toEqual(["hi", "end"]);
    if (version === "v4") expect(JSON.parse(carried.get(ids.error) ?? "")).toMatchObject({ status: "Success" });
    else expect(carried.get(ids.error), "success is silence").toBe("");
  });

  test.each(["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"])(
    "%s: a failure is plain text",
    async (name) => {
      const carried = await session(name, Buffer.from([104, 105, endOfInput]), false);
      expect(carried.get(ids.stdout)).toBe("hi");
      expect(carried.get(ids.error)).toBe("command terminated with non-zero exit code: exit status 7");
    },
  );

  test("v4: the exit code is in the status", async () => {
    const carried = await session(v4, Buffer.from([endOfInput]), false);
    expect(JSON.parse(carried.get(ids.error) ?? "")).toMatchObject({
      reason: "NonZeroExitCode",
      details: { causes: [{ reason: "ExitCode", message: "7" }] },
    });
  });
});

describe("a session ended by the server reports a failure to the client", () => {
  const types = { error: 1, stdin: 3, stdout: 5, stderr: 7 };
  const spdyStreams = async () => {
    const bytes = new SpdyClientBytes();
    const streams: Buffer[] = [];
    for (const [streamtype, id] of Object.entries(types)) streams.push(await bytes.synStream(id, { streamtype }));
    bytes.close();
    return Buffer.concat(streams);
  };
  const transports: readonly [string, (path: string) => Buffer, () => Promise<Buffer>][] = [
    ["SPDY", (path) => spdyRequest(path, v4), spdyStreams],
    ["WebSocket", (path) => webSocketRequest(path, "v5.channel.k8s.io"), async () => Buffer.alloc(0)],
  ];

  /** A running session, the server's end of it, and what the client has read at the end. */
  async function begin(request: (path: string) => Buffer, streams: () => Promise<Buffer>) {
    const [own, [listening]] = await withItsServers(startEchoServer);
    onTestFinished(() => own[Symbol.asyncDispose]());
    const accepted: Socket[] = [];
    listening?.on("connection", (socket: Socket) => accepted.push(socket));
    const client = connect(own.port, "127.0.0.1").on("error", () => undefined);
    onTestFinished(() => void client.destroy());
    const received: Buffer[] = [];
    client.on("data", (part: Buffer) => received.push(part));
    client.write(request(own.exec()));
    await once(client, "data");
    client.write(await streams());
    await expect.poll(() => own.open.size).toBe(1);
    const over = once(client, "close").then(() => Buffer.concat(received).toString("latin1"));
    return { own, client, accepted, over, received: () => Buffer.concat(received).toString("latin1") };
  }

  test.each(transports)("%s: when the server stops", async (_, request, streams) => {
    const { own, over } = await begin(request, streams);
    const stopping = performance.now();
    await own[Symbol.asyncDispose]();
    expect(performance.now() - stopping).toBeLessThan(1000);
    expect(await over).toMatch(/"status":"Failure","message":"Keelson is stopping, so exec was interrupted\./);
    expect(own.open.size).toBe(0);
  });

  test.each(transports)("%s: when the session has been idle for too long", async (_, request, streams) => {
    const { own, accepted, received } = await begin(request, streams);
    const [socket] = accepted;
    expect(socket?.timeout).toBe(4 * 60 * 60 * 1000);
    socket?.emit("timeout");
    await expect.poll(received).toMatch(/"status":"Failure","message":"This exec session has been idle for 4 h\./);
    expect(own.open.size).toBe(0);
  });

  test.each(transports)("%s: the server does not wait for a client that does not read", async (_, ...made) => {
    const { own, client } = await begin(...made);
    client.pause();
    const stopping = performance.now();
    await own[Symbol.asyncDispose]();
    expect(performance.now() - stopping).toBeLessThan(1000);
  });
});
