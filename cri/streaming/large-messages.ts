// What the messages of WebSocket clients may take of the daemon's memory. A message is held until it is whole, and then
// until its reader has taken it; clients may send a whole archive as one.

import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { Slots } from "../../native/index.ts";

/** As large as the peers take one (DefaultMaxPayloadBytes of golang.org/x/net/websocket). */
export const maxMessageBytes = 32 << 20;
/** Every client may have so much here. Ansible's pieces of a file have 1 MiB and a byte. */
export const usualMessageBytes = 2 << 20;
/** So many clients may have more at a time; another is not read until one of them is done. */
export const places = 8;
/** Of a ping, before its bytes. */
const controlHeader = 6;

export class LargeMessages {
  readonly #places = new Slots(places);

  /** `connection` carries `webSocket`. */
  bound(connection: Duplex, webSocket: WebSocket): void {
    const closed = new AbortController();
    let unfinished = 0;
    let place: "none" | "awaited" | "taken" = "none";
    const leave = () => {
      if (place === "taken") this.#places.giveBack();
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
    // The connection is held up by what its reader has not taken.
    const rest = () => {
      if (unfinished === 0 && !webSocket.isPaused) leave();
    };
    // Before the message that the bytes make whole.
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
