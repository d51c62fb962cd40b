// Finds the servers on which a piece of code listens, for tests of what happens to them.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Server } from "node:net";

const channel = "tracing:net.server.listen:asyncStart";

/** The result of `start`, and the servers that began to listen during it. */
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
