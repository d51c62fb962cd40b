// Exec, attach and port-forward over SPDY/3.1: which streams the client opens, and what each carries.

import type { Duplex } from "node:stream";
import type { Session } from "../../native/index.ts";
import { PortForwarding } from "./port-forward.ts";
import { type ClientStreams, ResizeReader, type Streams, serveSession } from "./remote-command.ts";
import { SpdyConnection, type SpdyStream } from "./spdy/connection.ts";

/** How long a client may take to open all of its streams before it is disconnected, milliseconds. */
const openMs = 30_000;

/** `protocol`: "v4.channel.k8s.io" and older. */
export async function serveSpdySession(
  socket: Duplex,
  head: Buffer,
  protocol: string,
  streams: Streams,
  start: () => Promise<Session>,
  ending: AbortSignal,
): Promise<void> {
  const resizes = streams.tty && (protocol.startsWith("v3") || protocol.startsWith("v4"));
  const wanted = [
    "error",
    ...(streams.stdin ? ["stdin"] : []),
    ...(streams.stdout ? ["stdout"] : []),
    ...(streams.stderr ? ["stderr"] : []),
    ...(resizes ? ["resize"] : []),
  ];
  const opened = new Map<string, SpdyStream>();
  const complete = Promise.withResolvers<void>();
  const connection = new SpdyConnection(socket, head, {
    // A single session: the only data received is its stdin, which may wait for the process without limit.
    stallMs: Number.POSITIVE_INFINITY,
    independent: false,
    onStream: (stream) => {
      const type = stream.headers.get("streamtype") ?? "";
      if (!wanted.includes(type) || opened.has(type)) {
        stream.reset();
        return;
      }
      opened.set(type, stream);
      if (opened.size === wanted.length) complete.resolve();
    },
  });
  const timer = setTimeout(() => connection.destroy(), openMs);
  await Promise.race([complete.promise, connection.closed]);
  clearTimeout(timer);
  const error = opened.get("error");
  if (opened.size < wanted.length || error === undefined) {
    connection.destroy();
    return;
  }

  await serveSession(start, clientStreams(opened, error, protocol.startsWith("v4"), connection.closed), ending);
  await connection.close();
}

function clientStreams(
  opened: ReadonlyMap<string, SpdyStream>,
  error: SpdyStream,
  statusAsJson: boolean,
  gone: Promise<void>,
): ClientStreams {
  const [stdin, stdout, stderr] = [opened.get("stdin"), opened.get("stdout"), opened.get("stderr")];
  for (const stream of [error, stdout, stderr]) stream?.resume();
  return {
    statusAsJson,
    gone,
    ...(stdin === undefined ? {} : { stdin }),
    ...(stdout === undefined ? {} : { stdout }),
    ...(stderr === undefined ? {} : { stderr }),
    onResize: (resize) => {
      const reader = new ResizeReader();
      opened.get("resize")?.on("data", (bytes: Buffer) => {
        for (const { columns, rows } of reader.feed(bytes)) resize(columns, rows);
      });
    },
    sendOutcome: (text) =>
      new Promise((resolve) => {
        error.once("close", resolve);
        error.end(text, resolve);
      }),
  };
}

/** A pair of streams for each connection: one for errors, one for data. */
export async function serveSpdyPortForward(
  socket: Duplex,
  head: Buffer,
  connect: (port: number, signal: AbortSignal) => Promise<Duplex>,
): Promise<void> {
  const forwarding = new PortForwarding(connect);
  const connection = new SpdyConnection(socket, head, {
    stallMs: 30_000,
    independent: true,
    onStream: (stream) => forwarding.open(stream),
  });
  await connection.closed;
  forwarding.close();
}
