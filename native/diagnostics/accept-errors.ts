// Handles failures to accept a connection (ENFILE, ENOMEM): the client loses its connection, but the process survives.
// A server's 'error' event without a listener would terminate it.

import type { Server } from "node:net";
import { messageOf } from "../client/errors.ts";
import type { Log } from "./log.ts";

/** While the host is short of a resource, there is another failure with every turn of the event loop. */
const quietMs = 60_000;

/** For a listening server; logs at most one failure per minute. */
export function logAcceptErrors(server: Server, name: string, log: Log): void {
  let said = -quietMs;
  server.on("error", (error) => {
    const now = performance.now();
    if (now - said < quietMs) return;
    said = now;
    log("warn", `${name} could not accept a connection`, { error: messageOf(error) });
  });
}
