// The servers that a piece of code listens with, for tests of what becomes of them.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Server } from "node:net";

const channel = "tracing:net.server.listen:asyncStart";

/** What `start` gives, and the servers that were told to listen meanwhile. */
export async function withItsServers<Started>(start: () => Promise<Started>): Promise<[Started, Server[]]> {
  const servers: Server[] = [];
  const note = (message: unknown) => void servers.push((message as { server: Server }).server);
  subscribe(channel, note);
  try {
    return [await start(), servers];
  } finally {
    unsubscribe(channel, note);
  }
}
