// The daemon's check of its own socket. A separate file, loaded when the watchdog first needs it: otherwise the client
// code and all messages would be read and compiled at each start, before the compile cache is enabled.

import { runtime } from "../api/generated/messages.js";
import { connectCalls } from "../grpc-calls.ts";

/** Connects like any client, so that accepting is tested too. Rejects if no answer comes in time. */
export async function ownSocketAnswers(socket: string, limitMs: number): Promise<void> {
  const { client, method } = connectCalls(socket);
  const { VersionRequest, VersionResponse } = runtime.v1;
  try {
    await method("/runtime.v1.RuntimeService/Version", VersionRequest, VersionResponse, limitMs)({});
  } finally {
    client.close();
  }
}
