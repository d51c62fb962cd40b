// `node cri/streaming/testing/fuzz.ts SECONDS [SEED]`: runs corrupted SPDY and WebSocket sessions against the codecs
// and a live server. Fails if a codec throws an undeclared error, a rejection is unhandled, a session or socket is
// leaked, or memory grows. The same seed corrupts the same bytes; their timing on the network varies.

import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { collect } from "../../../native/index.ts";
import { ControlType, controlFrame, dataFrame, FrameParser, flagFin, numbers, SpdyError } from "../spdy/frames.ts";
import { HeaderDecoder, parseHeaders } from "../spdy/headers.ts";
import { Opcode, SpdyClientBytes, spdyRequest, webSocketFrame, webSocketRequest } from "./client-bytes.ts";
import { type EchoServer, startEchoServer } from "./echo-server.ts";

const [seconds = 10, seed = 1] = process.argv.slice(2).map(Number);
const sessionsAtOnce = 24;
const maxGrowthBytes = 24 << 20;

const problems: string[] = [];
process.on("unhandledRejection", (reason) => problems.push(`unhandled rejection: ${reason}`));
process.on("uncaughtException", (error) => problems.push(`uncaught: ${error.stack}`));

/** mulberry32; returns numbers from 0 up to but not including `below`. */
function generator(state: number): (below: number) => number {
  let at = state >>> 0;
  return (below) => {
    at = (at + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(at ^ (at >>> 15), at | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
type Random = ReturnType<typeof generator>;

const extremes = ["00000000", "ffffffff", "7fffffff", "80000000", "00ffffff", "01ffffff", "80030001", "80030006"];

function damaged(bytes: Buffer, random: Random): Buffer {
  let result = Buffer.from(bytes);
  for (let left = random(5); left > 0 && result.length > 0; left -= 1) {
    const at = random(result.length);
    const length = 1 + random(Math.min(64, result.length - at));
    const [before, piece, after] = [
      result.subarray(0, at),
      result.subarray(at, at + length),
      result.subarray(at + length),
    ];
    switch (random(7)) {
      case 0:
        result[at] = (result[at] ?? 0) ^ (1 << random(8));
        break;
      case 1:
        result = Buffer.concat([before, after]);
        break;
      case 2:
        result = Buffer.concat([before, piece, piece, after]);
        break;
      case 3:
        result = Buffer.concat([before, Buffer.from(Array.from({ length }, () => random(256))), after]);
        break;
      case 4:
        result = Buffer.from(before);
        break;
      case 5:
        result = Buffer.concat([before, Buffer.from(extremes[random(extremes.length)] ?? "", "hex"), after]);
        break;
      default:
        result = Buffer.concat([after, piece, before]);
    }
  }
  return result;
}

function* cut(bytes: Buffer, random: Random): Generator<Buffer> {
  const largest = [1, 7, 64, 4096, 1 << 20][random(5)] ?? 1;
  // Only short sessions are sent byte by byte.
  const least = Math.ceil(bytes.length / 200);
  for (let at = 0; at < bytes.length; ) {
    const size = Math.max(least, 1 + random(largest));
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/** The bytes that a well-behaved client sends after the handshake. */
async function spdySessions(): Promise<{ command: Buffer; forward: Buffer }> {
  const [command, forward] = [new SpdyClientBytes(), new SpdyClientBytes()];
  const ping = (id: number) => controlFrame(ControlType.ping, 0, numbers(id));
  const types = ["error", "stdin", "stdout", "stderr", "resize"];
  const streams = [];
  for (const [index, streamtype] of types.entries())
    streams.push(await command.synStream(2 * index + 1, { streamtype }, streamtype === "error" ? flagFin : 0));
  const sessions = {
    command: Buffer.concat([
      ...streams,
      dataFrame(9, 24, false),
      Buffer.from('{"Width":80,"Height":24}'),
      dataFrame(3, 5, false),
      Buffer.from("hello"),
      ping(1),
      controlFrame(ControlType.headers, 0, Buffer.concat([numbers(3), await command.block({ more: "headers" })])),
      controlFrame(ControlType.settings, 0, numbers(1, 4, 100)),
      controlFrame(ControlType.windowUpdate, 0, numbers(3, 65536)),
      dataFrame(3, 30_000, true),
      Buffer.alloc(30_000, "keelson "),
      controlFrame(ControlType.goAway, 0, numbers(0, 0)),
    ]),
    forward: Buffer.concat([
      await forward.synStream(1, { streamtype: "error", port: "8080", requestid: "0" }, flagFin),
      await forward.synStream(3, { streamtype: "data", port: "8080", requestid: "0" }),
      dataFrame(3, 20_000, false),
      Buffer.alloc(20_000, "keelson "),
      ping(1),
      await forward.synStream(5, { streamtype: "error", port: "1", requestid: "1" }, flagFin),
      await forward.synStream(7, { streamtype: "data", port: "1", requestid: "1" }),
      controlFrame(ControlType.rstStream, 0, numbers(7, 5)),
      ping(2),
      dataFrame(3, 0, true),
    ]),
  };
  command.close();
  forward.close();
  return sessions;
}

function webSocketSession(random: Random, base64: boolean): Buffer {
  const message = (channel: number, payload: Buffer): Buffer => {
    const mutated = damaged(payload, random);
    return base64
      ? webSocketFrame(Opcode.text, Buffer.from(`${channel}${mutated.toString("base64")}`))
      : webSocketFrame(Opcode.binary, Buffer.concat([Buffer.from([channel]), mutated]));
  };
  return Buffer.concat([
    message(4, Buffer.from('{"Width":80,"Height":24}')),
    webSocketFrame(Opcode.ping, Buffer.from("alive")),
    message(0, Buffer.alloc(random(70_000), "keelson ")),
    message(random(256), Buffer.alloc(8)),
    webSocketFrame(Opcode.binary, Buffer.from([0, 104]), { fin: false }),
    webSocketFrame(Opcode.continuation, Buffer.from([105])),
    message(255, Buffer.alloc(1)),
    message(0, Buffer.from([4])),
    ...(random(2) === 0 ? [webSocketFrame(Opcode.close, Buffer.from("03e8", "hex"))] : []),
  ]);
}

function tunnelled(bytes: Buffer, random: Random): Buffer {
  return Buffer.concat([...cut(bytes, random)].map((piece) => webSocketFrame(Opcode.binary, piece)));
}

const honest = await spdySessions();
const spdyCommands = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const webSocketCommands = [
  "v5.channel.k8s.io",
  "v4.channel.k8s.io",
  "v4.base64.channel.k8s.io",
  "channel.k8s.io",
  "base64.channel.k8s.io",
  "",
];

function session(server: EchoServer, random: Random): [head: Buffer, body: Buffer] {
  const pick = (names: readonly string[]) => names[random(names.length)] ?? "";
  const streams = { tty: random(2) === 0, stderr: random(2) === 0 };
  switch (random(6)) {
    case 0:
      return [spdyRequest(server.exec(streams), pick(spdyCommands)), damaged(honest.command, random)];
    case 1:
      return [spdyRequest(server.forward([]), "portforward.k8s.io"), damaged(honest.forward, random)];
    case 2: {
      const protocol = pick(webSocketCommands);
      const body = webSocketSession(random, protocol.includes("base64"));
      return [webSocketRequest(server.exec(streams), protocol), random(2) === 0 ? damaged(body, random) : body];
    }
    case 3:
      return [
        webSocketRequest(server.forward([8080, 1, 9090]), "v4.channel.k8s.io"),
        damaged(webSocketSession(random, false), random),
      ];
    case 4: {
      const body = tunnelled(damaged(honest.forward, random), random);
      const path = server.forward([]);
      return [webSocketRequest(path, "SPDY/3.1+portforward.k8s.io"), random(4) === 0 ? damaged(body, random) : body];
    }
    default:
      return [damaged(spdyRequest("/exec/no-such-token", "v4.channel.k8s.io"), random), honest.command];
  }
}

async function codecs(random: Random): Promise<void> {
  const parser = new FrameParser();
  const decoder = new HeaderDecoder();
  try {
    for (const chunk of cut(damaged(random(2) === 0 ? honest.command : honest.forward, random), random))
      for (const frame of parser.feed(chunk)) if ("block" in frame) await decoder.decode(frame.block);
    parseHeaders(
      damaged(Buffer.concat([numbers(1, 4), Buffer.from("name"), numbers(5), Buffer.from("value")]), random),
    );
  } catch (error) {
    if (!(error instanceof SpdyError)) problems.push(`a codec threw ${error instanceof Error ? error.stack : error}`);
  } finally {
    decoder.close();
  }
}

async function live(server: EchoServer, random: Random): Promise<void> {
  const [head, body] = session(server, random);
  const [chunks, gentle, reads] = [[...cut(body, random)], random(4) > 0, random(8) > 0];
  const socket = connect(server.port, "127.0.0.1");
  socket.on("error", () => undefined);
  const closed = once(socket, "close");
  // Wait until the token is redeemed: unused ones live for a minute and are limited to a thousand. A corrupt request
  // gets no answer.
  const answered = once(socket, reads ? "data" : "readable").catch(() => undefined);
  if (reads) socket.resume();
  socket.write(head);
  for (const chunk of chunks) if (!socket.destroyed) socket.write(chunk);
  if (gentle) socket.end();
  await Promise.race([answered, closed, delay(300)]);
  await Promise.race([closed, delay(20)]);
  socket.destroy();
  await closed;
}

let [sessions, runs] = [0, 0];
const end = performance.now() + seconds * 1000;

async function worker(server: EchoServer, random: Random): Promise<void> {
  while (performance.now() < end && problems.length === 0) {
    await codecs(random);
    runs += 1;
    await live(server, random).then(
      () => (sessions += 1),
      (error: unknown) => problems.push(`the client's side: ${error instanceof Error ? error.stack : error}`),
    );
  }
}

function memory(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const mebibytes = (bytes: number) => `${(bytes / (1 << 20)).toFixed(1)} MiB`;
const sockets = () => process.getActiveResourcesInfo().filter((name) => /TCPSocket|Zlib|ZLIB/.test(name)).length;

const server = await startEchoServer();
let first = 0;
setTimeout(() => {
  first = memory();
}, seconds * 200).unref();
await Promise.all(Array.from({ length: sessionsAtOnce }, (_, index) => worker(server, generator(seed * 1000 + index))));
for (let left = 100; left > 0 && (server.open.size > 0 || sockets() > 0); left -= 1) await delay(100);
if (server.open.size > 0) problems.push(`${server.open.size} sessions are left`);
if (sockets() > 0) problems.push(`${sockets()} sockets are left: ${process.getActiveResourcesInfo()}`);
let last = memory();
// Memory of the last sessions is freed some turns of the event loop later.
for (let left = 20; left > 0 && last - first > maxGrowthBytes; left -= 1) {
  await delay(100);
  last = memory();
}
if (last - first > maxGrowthBytes) problems.push(`memory grew from ${mebibytes(first)} to ${mebibytes(last)}`);
await server[Symbol.asyncDispose]();

const rss = mebibytes(process.memoryUsage().rss);
process.stdout.write(
  `seed ${seed}: ${sessions} sessions, ${runs} codec runs in ${seconds} s; memory ${mebibytes(first)} -> ${mebibytes(last)}, RSS ${rss}\n`,
);
for (const problem of problems.slice(0, 10)) process.stdout.write(`${problem}\n`);
process.exitCode = problems.length === 0 ? 0 : 1;
