import { expect, test } from "vitest";
import { Slots, takeAny } from "./slots.ts";

/** A task that runs until `end` is called. */
function held() {
  const end = Promise.withResolvers<void>();
  return { task: () => end.promise, end: () => end.resolve() };
}

test("one slot is a queue, which keeps its order after a failure", async () => {
  const queue = new Slots(1);
  const log: string[] = [];
  const task = (name: string, fails: boolean) => async () => {
    log.push(`${name} begins`);
    await new Promise((resolve) => setImmediate(resolve));
    log.push(`${name} ends`);
    if (fails) throw new Error(name);
  };
  const results = await Promise.allSettled([
    queue.run(task("a", false)),
    queue.run(task("b", true)),
    queue.run(task("c", false)),
  ]);
  expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(log).toEqual(["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
  expect(queue.idle).toBe(true);
});

test("runs no more tasks than there are slots, in FIFO order", async () => {
  const slots = new Slots(2);
  const tasks = [held(), held(), held(), held()];
  const begun: number[] = [];
  const runs = tasks.map(({ task }, n) =>
    slots.run(async () => {
      begun.push(n);
      await task();
    }),
  );
  await new Promise((resolve) => setImmediate(resolve));
  expect(begun).toEqual([0, 1]);
  tasks[1]?.end();
  await runs[1];
  await new Promise((resolve) => setImmediate(resolve));
  expect(begun).toEqual([0, 1, 2]);
  for (const { end } of tasks) end();
  await Promise.all(runs);
  expect(begun).toEqual([0, 1, 2, 3]);
});

test("aborted before: takes no slot", async () => {
  const slots = new Slots(1);
  await expect(slots.run(async () => "runs", AbortSignal.abort(new Error("gone")))).rejects.toThrow("gone");
  expect(slots.idle).toBe(true);
});

test("aborted while waiting: leaves the queue, and the others move up", async () => {
  const slots = new Slots(1);
  const first = held();
  const running = slots.run(first.task);
  const caller = new AbortController();
  const leaving = slots.run(async () => expect.unreachable(), caller.signal);
  const last = slots.run(async () => "runs");
  caller.abort(new Error("left"));
  await expect(leaving).rejects.toThrow("left");
  first.end();
  await running;
  expect(await last).toBe("runs");
});

test("aborted just as its turn comes: never starts, and the slot goes to the next", async () => {
  const slots = new Slots(1);
  const caller = new AbortController();
  await slots.take();
  const leaving = slots.run(async () => expect.unreachable(), caller.signal);
  const last = slots.run(async () => "runs");
  slots.release();
  caller.abort(new Error("left"));
  await expect(leaving).rejects.toThrow("left");
  expect(await last).toBe("runs");
  expect(slots.idle).toBe(true);
});

test("aborted while running: the slot is kept until the task finishes", async () => {
  const slots = new Slots(1);
  const caller = new AbortController();
  const first = held();
  const running = slots.run(first.task, caller.signal);
  await new Promise((resolve) => setImmediate(resolve));
  caller.abort();
  expect(slots.tryTake()).toBe(false);
  first.end();
  await running;
  expect(slots.tryTake()).toBe(true);
});

test("is idle only once all tasks have finished", async () => {
  const slots = new Slots(1);
  await slots.untilIdle();
  const tasks = [held(), held()];
  const runs = tasks.map(({ task }) => slots.run(task));
  let idle = false;
  const waiting = slots.untilIdle().then(() => {
    idle = true;
  });
  tasks[0]?.end();
  await runs[0];
  await new Promise((resolve) => setImmediate(resolve));
  expect(idle).toBe(false);
  tasks[1]?.end();
  await waiting;
});

test("takeAny takes a slot of the first that has one free, and holds none of the others", async () => {
  const never = new AbortController().signal;
  const [first, second] = [new Slots(1), new Slots(1)];
  expect(await takeAny([first, second], never)).toBe(first);
  expect(second.idle).toBe(true);
  expect(await takeAny([first, second], never)).toBe(second);
  const waiting = takeAny([first, second], never);
  second.release();
  expect(await waiting).toBe(second);
  first.release();
  expect(first.idle).toBe(true);
});

test("takeAny leaves all queues when its signal aborts", async () => {
  const full = [new Slots(1), new Slots(1)];
  for (const slots of full) await slots.take();
  const reason = new Error("left");
  await expect(takeAny(full, AbortSignal.abort(reason))).rejects.toBe(reason);
  const leaving = new AbortController();
  const waiting = takeAny(full, leaving.signal);
  leaving.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  for (const slots of full) slots.release();
  expect(full.map(({ idle }) => idle)).toEqual([true, true]);
});
