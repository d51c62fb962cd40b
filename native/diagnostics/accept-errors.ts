// What a server cannot accept (ENFILE, ENOMEM) costs that client its connection. An 'error' of a server that nobody
// listens to would end the process.

import type { Server } from "node:net";
import { messageOf } from "../client/errors.ts";
import type { Log } from "./log.ts";

/** While the host is short of something, the next failure comes with the next turn of the loop. */
const quietMs = 60_000;

/** For a server that listens; logs the first failure of a minute. */
export function logAcceptErrors(server: Server, name: string, log: Log): void {
  let said = -quietMs;
  server.on("error", (error) => {
    const now = performance.now();
    if (now - said < quietMs) return;
    said = now;
    log("warn", `${name} could not accept a connection`, { error: messageOf(error) });
  });
}
