// Events reach their readers in order, and none is missed silently.

import { expect, test, vi } from "vitest";
import { EventHub } from "./events.ts";
import type { PodEvent } from "./types.ts";

const unwanted = () => expect.unreachable();
const event = (containerId: string): PodEvent => ({ containerId, type: "started", createdAt: 1n, containers: [] });

test("a reader gets the events published after it subscribed, in order", async () => {
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

test("a reader that is too far behind is closed, and does not block others", async () => {
  const hub = new EventHub();
  const leave = new AbortController();
  const [slow, quick] = [hub.subscribe(leave.signal, (reason) => leave.abort(reason)), new AbortController()];
  const read = hub.subscribe(quick.signal, unwanted)[Symbol.asyncIterator]();
  for (let index = 0; index < 10_500; index += 1) {
    hub.publish(event(String(index)));
    expect((await read.next()).value?.containerId).toBe(String(index));
  }
  quick.abort();
  expect(leave.signal.reason).toMatchObject({ code: "ResourceExhausted" });
  expect((await slow[Symbol.asyncIterator]().next()).done, "a gap would not be seen").toBe(true);
});

test("a reader that is too far behind gets no more events, even before its caller aborts it", async () => {
  const hub = new EventHub();
  const leave = new AbortController();
  const ends: unknown[] = [];
  const slow = hub.subscribe(leave.signal, (reason) => ends.push(reason))[Symbol.asyncIterator]();
  for (let index = 0; index < 20_100; index += 1) hub.publish(event(String(index)));
  const next = slow.next();
  leave.abort();
  expect((await next).done).toBe(true);
  expect(ends).toMatchObject([{ code: "ResourceExhausted" }]);
});

test("a reader that stops reading is unsubscribed", async () => {
  const hub = new EventHub();
  const events = hub.subscribe(new AbortController().signal, unwanted);
  hub.publish(event("a"));
  for await (const { containerId } of events) {
    expect(containerId).toBe("a");
    break;
  }
  for (let index = 0; index < 10_100; index += 1) hub.publish(event(String(index)));
});

test("a waiting reader gets the next event at once; one that was aborted gets none", async () => {
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

test("a pod's last event is confirmed a few times, at growing intervals", async () => {
  vi.useFakeTimers();
  try {
    const hub = new EventHub();
    const leave = new AbortController();
    const read = hub.subscribe(leave.signal, unwanted)[Symbol.asyncIterator]();
    const got: { readonly id: string; readonly after: number }[] = [];
    const began = Date.now();
    const reading = (async () => {
      for (let next = await read.next(); !next.done; next = await read.next())
        got.push({ id: next.value.containerId, after: Date.now() - began });
    })();
    hub.confirm("pod", () => event("first"));
    hub.confirm("other", () => event("of another pod"));
    await vi.advanceTimersByTimeAsync(150);
    hub.confirm("pod", () => event("second"));
    hub.confirm("other", undefined);
    await vi.advanceTimersByTimeAsync(60_000);
    leave.abort();
    await reading;
    expect(got).toEqual([
      { id: "first", after: 100 },
      { id: "of another pod", after: 100 },
      { id: "second", after: 250 },
      { id: "second", after: 550 },
      { id: "second", after: 1750 },
    ]);
  } finally {
    vi.useRealTimers();
  }
});

test("without a reader, nothing is confirmed", () => {
  vi.useFakeTimers();
  try {
    new EventHub().confirm("pod", () => expect.unreachable());
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});
