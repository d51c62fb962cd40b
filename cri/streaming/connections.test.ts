// Connections without a token must not take resources from clients that have one.

import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { maxSessions, maxUnauthenticated } from "./connections.ts";
import { spdyRequest, webSocketRequest } from "./testing/client-bytes.ts";
import { type EchoServer, startEchoServer } from "./testing/echo-server.ts";
import { exchange } from "./testing/exchange.ts";

const v4 = "v4.channel.k8s.io";
const unknown = `/exec/${"A".repeat(32)}`;

let server: EchoServer;
let clients: Socket[];
beforeEach(async () => {
  server = await startEchoServer();
  clients = [];
});
afterEach(async () => {
  for (const client of clients) client.destroy();
  await server[Symbol.asyncDispose]();
});

/** A client that never hangs up; `said` returns the data it received. */
async function open(request?: Buffer): Promise<{ readonly socket: Socket; said(): string }> {
  const socket = connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true });
  clients.push(socket);
  let said = "";
  socket.on("error", () => undefined).on("data", (part: Buffer) => (said += part.toString("latin1")));
  await once(socket, "connect");
  if (request !== undefined) socket.write(request);
  return { socket, said: () => said };
}

/**
 * Connects as fast as the server accepts: libuv accepts one connection per turn of the event loop. A full backlog (511)
 * would drop the SYN, which is retransmitted after a second.
 */
async function hundredsAtOnce<Result>(count: number, make: () => Promise<Result>): Promise<Result[]> {
  const made: Result[] = [];
  while (made.length < count) {
    made.push(...(await Promise.all(Array.from({ length: 200 }, make))));
    for (let turn = 0; turn < 200; turn += 1) await nextTurn();
  }
  return made;
}

/** The number of the server's sockets in this process: all sockets except the clients'. */
async function held(): Promise<number> {
  const descriptors = (await readdir("/proc/self/fd")).length;
  return descriptors - clients.filter((client) => !client.destroyed).length;
}

test("a thousand refused upgrades held half-open do not block a client with a token", async () => {
  const before = await held();
  const refused = await hundredsAtOnce(maxSessions, () => open(spdyRequest(unknown, v4)));
  await expect.poll(() => refused.filter(({ said }) => said().startsWith("HTTP/1.1 404 ")).length).toBe(maxSessions);
  expect(await held(), "a refusal ends the connection").toBeLessThan(before + 20);
  const { head } = await exchange(server.port, spdyRequest(server.exec(), v4));
  expect(head).toMatch(/^HTTP\/1.1 101 /);
});

test("of 8,000 silent connections at most a thousand are kept, for seconds, and a token still works", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const before = await held();
  await hundredsAtOnce(8000, () => open());
  expect(await held()).toBeLessThan(before + maxUnauthenticated + 20);
  const { head } = await exchange(server.port, spdyRequest(server.exec(), v4));
  expect(head).toMatch(/^HTTP\/1.1 101 /);
  vi.advanceTimersByTime(5_000);
  await expect.poll(held).toBeLessThan(before + 20);
}, 60_000);

test("a request that never ends is closed after seconds, even if it keeps sending", async () => {
  const { socket } = await open(Buffer.from("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"));
  const closed = new Promise((resolve) => socket.once("close", resolve));
  const drip = setInterval(() => socket.write("X: y\r\n"), 500);
  try {
    expect(await Promise.race([closed, delay(8_000, "still open")])).not.toBe("still open");
  } finally {
    clearInterval(drip);
  }
});

test("a session above a thousand is refused with 429 and keeps its token; refused requests do not count", async () => {
  const sessions = await hundredsAtOnce(maxSessions, () => open(webSocketRequest(server.exec(), "v5.channel.k8s.io")));
  await expect.poll(() => sessions.filter(({ said }) => said().startsWith("HTTP/1.1 101 ")).length).toBe(maxSessions);
  const path = server.exec();
  expect((await exchange(server.port, spdyRequest(path, v4))).head).toMatch(/^HTTP\/1.1 429 /);
  sessions[0]?.socket.destroy();
  await expect.poll(() => server.open.size).toBe(maxSessions - 1);
  expect((await exchange(server.port, spdyRequest(path, v4))).head).toMatch(/^HTTP\/1.1 101 /);
}, 60_000);
