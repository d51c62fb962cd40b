// Deadlines of calls that are further away than a timer can hold, 24 days: grpc-js ends such a call at once, and kubelets
// make them, of a grace period and 2 min. The client is left to keep its deadline, which it does in any case: it resets
// the call when it passes.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { longestTimerMs } from "../../native/index.ts";

/** Node tells there of each request before its server does. */
const requests = "http2.server.stream.created";
const header = "grpc-timeout";
/** The units that can be as long as that. Source: gRPC over HTTP/2, "Timeout". */
const units = new Map([
  ["H", 3_600_000],
  ["M", 60_000],
  ["S", 1000],
]);

/** For all HTTP/2 servers of the process, until the function returned is called. */
export function leaveFarDeadlines(): () => void {
  subscribe(requests, leave);
  return () => unsubscribe(requests, leave);
}

function leave(request: unknown): void {
  if (typeof request !== "object" || request === null || !("headers" in request)) return;
  const { headers } = request;
  if (typeof headers !== "object" || headers === null || !(header in headers)) return;
  const [, digits, unit = ""] = /^(\d+)(.)$/.exec(String(headers[header])) ?? [];
  if (Number(digits) * (units.get(unit) ?? 0) > longestTimerMs) delete headers[header];
}
