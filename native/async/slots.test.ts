import { expect, test } from "vitest";
import { Slots, takeAny } from "./slots.ts";

/** A task that runs until it is told to end. */
function held() {
  const end = Promise.withResolvers<void>();
  return { task: () => end.promise, end: () => end.resolve() };
}

test("one slot is a queue, which keeps its order past a failure", async () => {
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

test("admits no more than its number, in the order they came", async () => {
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

test("aborted while it waits: leaves the line, and the others move up", async () => {
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

test("aborted in the instant of its turn: never starts, and the slot goes on", async () => {
  const slots = new Slots(1);
  const caller = new AbortController();
  await slots.take();
  const leaving = slots.run(async () => expect.unreachable(), caller.signal);
  const last = slots.run(async () => "runs");
  slots.giveBack();
  caller.abort(new Error("left"));
  await expect(leaving).rejects.toThrow("left");
  expect(await last).toBe("runs");
  expect(slots.idle).toBe(true);
});

test("aborted at work: the slot is kept until the work has ended", async () => {
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

test("is idle when everybody has left, not before", async () => {
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

test("of several the one that is free first is taken, and no other stays taken", async () => {
  const never = new AbortController().signal;
  const [first, second] = [new Slots(1), new Slots(1)];
  expect(await takeAny([first, second], never)).toBe(first);
  expect(second.idle).toBe(true);
  expect(await takeAny([first, second], never)).toBe(second);
  const waiting = takeAny([first, second], never);
  second.giveBack();
  expect(await waiting).toBe(second);
  first.giveBack();
  expect(first.idle).toBe(true);
});

test("who waits for several leaves all of them when its signal aborts", async () => {
  const full = [new Slots(1), new Slots(1)];
  for (const slots of full) await slots.take();
  const reason = new Error("left");
  await expect(takeAny(full, AbortSignal.abort(reason))).rejects.toBe(reason);
  const leaving = new AbortController();
  const waiting = takeAny(full, leaving.signal);
  leaving.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  for (const slots of full) slots.giveBack();
  expect(full.map(({ idle }) => idle)).toEqual([true, true]);
});
