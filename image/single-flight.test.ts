import { expect, test } from "vitest";
import { Queue, Slots } from "./scheduling.ts";
import { SingleFlight } from "./single-flight.ts";

const never = new AbortController().signal;

test("equal work is done once, other work beside it, and again when it has ended", async () => {
  const flights = new SingleFlight<number>();
  let starts = 0;
  const start = async () => ++starts;
  expect(await Promise.all([flights.join("a", never, start), flights.join("a", never, start)])).toEqual([1, 1]);
  expect(await flights.join("b", never, start)).toBe(2);
  expect(await flights.join("a", never, start)).toBe(3);
});

test("a failure reaches every waiter and is not kept", async () => {
  const flights = new SingleFlight<number>();
  const fail = () => Promise.reject(new Error("no"));
  const both = [flights.join("a", never, fail), flights.join("a", never, fail)];
  for (const result of await Promise.allSettled(both)) expect(result.status).toBe("rejected");
  expect(await flights.join("a", never, async () => 1)).toBe(1);
});

test("the flight is aborted by its last waiter only, who waits for its undo", async () => {
  const flights = new SingleFlight<number>();
  let undone = false;
  const start = (signal: AbortSignal) =>
    new Promise<number>((_resolve, reject) => {
      signal.addEventListener("abort", () => {
        setTimeout(() => {
          undone = true;
          reject(signal.reason);
        }, 20);
      });
    });
  const [one, two] = [new AbortController(), new AbortController()];
  const first = flights.join("a", one.signal, start);
  const second = flights.join("a", two.signal, start);
  one.abort(new Error("one"));
  await expect(first).rejects.toThrow("one");
  expect(undone).toBe(false);
  two.abort(new Error("two"));
  expect(flights.has("a")).toBe(true);
  await expect(second).rejects.toThrow("two");
  expect(undone).toBe(true);
  expect(flights.has("a")).toBe(false);
});

test("a waiter that has given up already does not start anything", async () => {
  const flights = new SingleFlight<number>();
  await expect(flights.join("a", AbortSignal.abort(new Error("late")), async () => 1)).rejects.toThrow("late");
  expect(flights.has("a")).toBe(false);
});

test("a queue keeps order over failures", async () => {
  const queue = new Queue();
  const order: string[] = [];
  const failing = queue.run(async () => {
    order.push("a");
    throw new Error("a failed");
  });
  const next = queue.run(async () => order.push("b"));
  await expect(failing).rejects.toThrow("a failed");
  await next;
  await queue.idle();
  expect(order).toEqual(["a", "b"]);
});

test("slots admit no more than their number, and a waiter may leave the line", async () => {
  const slots = new Slots(1);
  const gate = Promise.withResolvers<void>();
  const first = slots.run(never, () => gate.promise);
  const leaving = new AbortController();
  const left = slots.run(leaving.signal, async () => "never runs");
  const last = slots.run(never, async () => "runs");
  leaving.abort(new Error("left"));
  await expect(left).rejects.toThrow("left");
  gate.resolve();
  await first;
  expect(await last).toBe("runs");
  expect(await slots.run(never, async () => "free again")).toBe("free again");
});
