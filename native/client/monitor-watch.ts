// Watches a pod: the monitor's events as an async iterable.

import { decodeJson, FrameError, FrameType } from "./frames.ts";
import type { MonitorEvent } from "./monitor.ts";
import { type CallOutcome, MonitorCall } from "./monitor-call.ts";
import type { MonitorConnections } from "./monitor-connection.ts";
import { parseEvent } from "./monitor-messages.ts";

/** The first event must arrive within this time. */
const beginMs = 10_000;
/** Events buffered for a slow consumer before the connection is paused; the monitor then closes it in turn. */
const mostHeld = 64;

export async function* watch(
  connections: MonitorConnections,
  signal: AbortSignal,
): AsyncGenerator<MonitorEvent, void, undefined> {
  if (signal.aborted) return;
  const held: MonitorEvent[] = [];
  let outcome: CallOutcome | undefined;
  let begun = false;
  let news = Promise.withResolvers<void>();
  const call: MonitorCall = new MonitorCall(
    connections,
    "own",
    { op: "watch" },
    { timeoutMs: beginMs, signal },
    {
      frame(type, payload) {
        if (type !== FrameType.event) throw new FrameError(`unexpected frame of type ${type} in a watch`);
        const event = parseEvent(decodeJson(payload));
        if (event === undefined) return;
        if (!begun && event.type !== "state") throw new FrameError("the first event of a watch is not the state");
        begun = true;
        call.begun();
        held.push(event);
        if (held.length >= mostHeld) call.pause();
        news.resolve();
      },
      over(how) {
        outcome = how;
        news.resolve();
      },
    },
  );
  try {
    for (;;) {
      for (let event = held.shift(); event !== undefined; event = held.shift()) yield event;
      if (outcome !== undefined) break;
      call.resume();
      await news.promise;
      news = Promise.withResolvers<void>();
    }
  } finally {
    call.cancel();
  }
  if (!outcome.answered && !signal.aborted && (!begun || outcome.error.name !== "monitorHungUp")) throw outcome.error;
}
