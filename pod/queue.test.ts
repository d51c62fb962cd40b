// A pod's queue: one at a time, in order; work whose caller leaves the queue never runs.

import { expect, test } from "vitest";
import { PodQueue } from "./queue.ts";
import { holdTime, pass, quiet } from "./testing/clock.ts";

const never = new AbortController().signal;
holdTime();

/** Work that runs until it is told to finish. */
function longWork(log: string[], name: string) {
  const end = Promise.withResolvers<void>();
  end.promise.catch(() => undefined);
  const run = async () => {
    log.push(`${name} begins`);
    await end.promise;
    log.push(`${name} ends`);
  };
  return { run, end: () => end.resolve(), fail: (error: Error) => end.reject(error) };
}

test("runs one at a time, in order, and continues after a failure", async () => {
  const queue = new PodQueue();
  const log: string[] = [];
  const works = ["a", "b", "c"].map((name) => longWork(log, name));
  const all = works.map((work) => queue.run("pod", "step", never, 1000, work.run));
  const settled = Promise.allSettled(all);
  works[2]?.end();
  works[1]?.fail(new Error("b"));
  await quiet();
  expect(log).toEqual(["a begins"]);
  works[0]?.end();
  expect((await settled).map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(log).toEqual(["a begins", "a ends", "b begins", "c begins", "c ends"]);
  expect(queue.idle).toBe(true);
});

test("work of a caller that has given up already never starts", async () => {
  const queue = new PodQueue();
  const log: string[] = [];
  const work = longWork(log, "a");
  await expect(queue.run("pod", "step", AbortSignal.abort(), 1000, work.run)).rejects.toThrow("aborted");
  expect([log, queue.idle]).toEqual([[], true]);
});

test("a caller that waits too long or gives up leaves the queue, and its work never starts", async () => {
  const queue = new PodQueue();
  const log: string[] = [];
  const slow = longWork(log, "slow");
  const held = queue.run("pod", "the slow one", never, 1000, slow.run);
  let started = 0;
  const count = async () => {
    started += 1;
  };
  const late = queue.run("pod", "late", never, 20, count);
  late.catch(() => undefined);
  const giveUp = new AbortController();
  const leaving = queue.run("pod", "left", giveUp.signal, 1000, count);
  giveUp.abort();
  await expect(leaving).rejects.toMatchObject({ code: "Cancelled" });
  await pass(20);
  await expect(late).rejects.toMatchObject({ name: "busy", message: expect.stringContaining("the slow one") });
  const next = queue.run("pod", "next", never, 1000, count);
  await quiet();
  expect(started, "the previous one is still running").toBe(0);
  slow.end();
  await Promise.all([held, next]);
  expect(started).toBe(1);
  expect(queue.idle).toBe(true);
});

test("reports the step that is running", async () => {
  const queue = new PodQueue();
  const slow = longWork([], "slow");
  const held = queue.run("pod", "the slow one", never, 1000, slow.run);
  await quiet();
  expect([queue.current, queue.idle]).toEqual(["the slow one", false]);
  slow.end();
  await held;
  expect([queue.current, queue.idle]).toEqual(["", true]);
});
