// Call deadlines beyond the longest timer, 24 days: grpc-js ends such a call at once, but kubelets send them (a grace
// period plus 2 min). Such deadlines are left to the client, which resets the call at its deadline in any case.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { longestTimerMs } from "../../native/index.ts";

/** Node publishes each request on this channel before its server emits it. */
const requests = "http2.server.stream.created";
const header = "grpc-timeout";
/** The units that can express such a deadline. Source: gRPC over HTTP/2, "Timeout". */
const units = new Map([
  ["H", 3_600_000],
  ["M", 60_000],
  ["S", 1000],
]);

/** Applies to all HTTP/2 servers of the process, until the returned function is called. */
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
