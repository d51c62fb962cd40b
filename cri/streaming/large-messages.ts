// Limits the daemon's memory used by messages of WebSocket clients. A message is buffered until it is complete, and
// then until its reader has consumed it; clients may send an entire archive as one message.

import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { Slots } from "../../native/index.ts";

/** The same limit as in other runtimes (DefaultMaxPayloadBytes of golang.org/x/net/websocket). */
export const maxMessageBytes = 32 << 20;
/** Every client may buffer this much. Ansible sends files in pieces of 1 MiB and one byte. */
export const usualMessageBytes = 2 << 20;
/** This many clients may exceed that at a time; further ones are not read until one of them is done. */
export const places = 8;
/** The header size of a ping. */
const controlHeader = 6;

export class LargeMessages {
  readonly #places = new Slots(places);

  /** `connection` carries `webSocket`. */
  bound(connection: Duplex, webSocket: WebSocket): void {
    const closed = new AbortController();
    let unfinished = 0;
    let place: "none" | "awaited" | "taken" = "none";
    const leave = () => {
      if (place === "taken") this.#places.release();
      place = "none";
    };
    const awaitPlace = async () => {
      place = "awaited";
      webSocket.pause();
      await this.#places.take(closed.signal);
      place = "taken";
      if (closed.signal.aborted) leave();
      else webSocket.resume();
    };
    // A connection stays paused until its reader has consumed the data.
    const rest = () => {
      if (unfinished === 0 && !webSocket.isPaused) leave();
    };
    // Runs before the message that these bytes complete is emitted.
    connection.prependListener("data", (bytes: Buffer) => {
      unfinished += bytes.length;
      if (unfinished > usualMessageBytes && place === "none") awaitPlace().catch(() => undefined);
    });
    connection.on("resume", rest);
    webSocket.on("message", () => {
      unfinished = 0;
      process.nextTick(rest);
    });
    for (const control of ["ping", "pong"])
      webSocket.on(control, (bytes: Buffer) => {
        unfinished -= controlHeader + bytes.length;
      });
    webSocket.once("close", () => {
      closed.abort();
      leave();
    });
  }
}
