// A client's session with a streaming server, in raw bytes.

import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

const silentMs = 300;

export interface Answer {
  /** The status line and the headers. */
  readonly head: string;
  readonly body: Buffer;
}

/**
 * Sends the request and, once it is answered, the bytes; returns all data until the server closes or is idle for
 * `silentMs`.
 */
export async function exchange(port: number, request: Buffer, bytes: readonly Buffer[] = []): Promise<Answer> {
  const socket = connect(port, "127.0.0.1");
  const received: Buffer[] = [];
  socket.on("data", (part: Buffer) => received.push(part)).on("error", () => undefined);
  // The server runs in this process: after a stall the timeout fires before either end has read pending data.
  socket.setTimeout(silentMs, async () => {
    const before = received.length;
    await delay(20);
    if (received.length === before) socket.destroy();
  });
  const closed = once(socket, "close");
  socket.write(request);
  while (!socket.destroyed && !Buffer.concat(received).includes("\r\n\r\n"))
    await Promise.race([once(socket, "data"), closed]);
  for (const part of bytes) {
    if (!socket.destroyed) socket.write(part);
    await delay(5);
  }
  await closed;
  const all = Buffer.concat(received);
  const end = all.indexOf("\r\n\r\n") + 4;
  return { head: all.toString("latin1", 0, end), body: all.subarray(end) };
}
