// Events to their readers: in order, none missed unknowingly.

import { expect, test } from "vitest";
import { EventHub } from "./events.ts";
import type { PodEvent } from "./types.ts";

const unwanted = () => expect.unreachable();
const event = (containerId: string): PodEvent => ({ containerId, type: "started", createdAt: 1n, containers: [] });

test("a reader gets what is published after it subscribed, in order", async () => {
  const hub = new EventHub();
  const leave = new AbortController();
  const events = hub.subscribe(leave.signal, unwanted);
  for (const id of ["a", "b", "c"]) hub.publish(event(id));
  const got: string[] = [];
  for await (const { containerId } of events) {
    got.push(containerId);
    if (got.length === 3) leave.abort();
  }
  expect(got).toEqual(["a", "b", "c"]);
});

test("a reader that is too far behind is ended, and holds nobody up", async () => {
  const hub = new EventHub();
  const leave = new AbortController();
  const [slow, quick] = [hub.subscribe(leave.signal, (reason) => leave.abort(reason)), new AbortController()];
  const read = hub.subscribe(quick.signal, unwanted)[Symbol.asyncIterator]();
  for (let index = 0; index < 1500; index += 1) {
    hub.publish(event(String(index)));
    expect((await read.next()).value?.containerId).toBe(String(index));
  }
  quick.abort();
  expect(leave.signal.reason).toMatchObject({ code: "ResourceExhausted" });
  expect((await slow[Symbol.asyncIterator]().next()).done, "a gap would not be seen").toBe(true);
});

test("a reader that waits gets the next event at once; one that has left gets none", async () => {
  const hub = new EventHub();
  const leave = new AbortController();
  const reading = hub.subscribe(leave.signal, unwanted)[Symbol.asyncIterator]();
  const next = reading.next();
  hub.publish(event("a"));
  expect((await next).value?.containerId).toBe("a");
  const last = reading.next();
  leave.abort();
  hub.publish(event("b"));
  expect((await last).done).toBe(true);
});
