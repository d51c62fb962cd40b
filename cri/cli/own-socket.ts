// The daemon's socket asked by the daemon itself. In a file of its own, which is loaded when a watchdog first asks: the
// client's code and all messages would be read and compiled at each start, before the code that is kept compiled.

import { runtime } from "../api/generated/messages.js";
import { connectCalls } from "../grpc-calls.ts";

/** As any client: over a connection of its own, so that accepting one is seen too. Rejects when no answer comes in time. */
export async function ownSocketAnswers(socket: string, limitMs: number): Promise<void> {
  const { client, method } = connectCalls(socket);
  const { VersionRequest, VersionResponse } = runtime.v1;
  try {
    await method("/runtime.v1.RuntimeService/Version", VersionRequest, VersionResponse, limitMs)({});
  } finally {
    client.close();
  }
}
