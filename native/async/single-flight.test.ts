import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { SingleFlight } from "./single-flight.ts";

const never = new AbortController().signal;

describe.each(["abort", "finish"] as const)("work with the policy %s when abandoned", (whenAbandoned) => {
  test("is done once for all concurrent callers, and again after it has finished", async () => {
    const flights = new SingleFlight<number>(whenAbandoned);
    let starts = 0;
    const start = async () => ++starts;
    expect(await Promise.all([flights.join("a", never, start), flights.join("a", never, start)])).toEqual([1, 1]);
    expect(await flights.join("b", never, start)).toBe(2);
    expect(await flights.join("a", never, start)).toBe(3);
  });

  test("fails for every caller, and the failure is not cached", async () => {
    const flights = new SingleFlight<number>(whenAbandoned);
    const fail = () => Promise.reject(new Error("no"));
    const both = [flights.join("a", never, fail), flights.join("a", never, fail)];
    for (const result of await Promise.allSettled(both)) expect(result.status).toBe("rejected");
    expect(await flights.join("a", never, async () => 1)).toBe(1);
  });

  test("is not started by a caller whose signal has already aborted", async () => {
    const flights = new SingleFlight<number>(whenAbandoned);
    const gone = AbortSignal.abort(new Error("late"));
    await expect(flights.join("a", gone, async () => 1)).rejects.toThrow("late");
    expect(flights.has("a")).toBe(false);
  });

  test("continues for the others when one caller gives up", async () => {
    const flights = new SingleFlight<string>(whenAbandoned);
    const work = Promise.withResolvers<string>();
    const caller = new AbortController();
    const leaving = flights.join(
      "a",
      caller.signal,
      () => work.promise,
      () => new Error("no longer wanted"),
    );
    const staying = flights.join("a", never, () => work.promise);
    expect(flights.callers("a")).toBe(2);
    caller.abort();
    await expect(leaving).rejects.toThrow("no longer wanted");
    expect(flights.callers("a")).toBe(1);
    work.resolve("done");
    expect(await staying).toBe("done");
  });
});

test("abort: the last caller aborts the work and waits for its rollback; a new caller meanwhile restarts it", async () => {
  const flights = new SingleFlight<number>("abort");
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
  await new Promise((resolve) => setImmediate(resolve));
  const third = flights.join("a", never, async () => 3);
  expect(undone).toBe(false);
  await expect(second).rejects.toThrow("two");
  expect(undone).toBe(true);
  expect(await third).toBe(3);
  expect(flights.has("a")).toBe(false);
});

test("finish: a caller that joins before it finishes gets the result of abandoned work", async () => {
  const unclaimed: string[] = [];
  const flights = new SingleFlight<string>("finish", (result) => unclaimed.push(result));
  const work = Promise.withResolvers<string>();
  const caller = new AbortController();
  const first = flights.join("a", caller.signal, () => work.promise);
  caller.abort(new Error("gone"));
  await expect(first).rejects.toThrow("gone");
  const second = flights.join("a", never, async () => "made twice");
  work.resolve("made once");
  expect(await second).toBe("made once");
  expect(unclaimed).toEqual([]);
});

test("finish: an unclaimed result goes to onUnclaimed, a failure does not", async () => {
  const unclaimed: string[] = [];
  const flights = new SingleFlight<string>("finish", (result) => unclaimed.push(result));
  const caller = new AbortController();
  const good = flights.join("good", caller.signal, () => sleep(10, "orphan"));
  const bad = flights.join("bad", caller.signal, async () => {
    await sleep(10);
    throw new Error("nobody hears this");
  });
  caller.abort(new Error("gone"));
  await expect(good).rejects.toThrow("gone");
  await expect(bad).rejects.toThrow("gone");
  const state = () => ({ unclaimed, inFlight: flights.has("good") || flights.has("bad") });
  await expect.poll(state).toEqual({ unclaimed: ["orphan"], inFlight: false });
});
