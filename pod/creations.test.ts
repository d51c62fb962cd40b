// Single flight: callers with the same key share the work, which continues when they give up.

import { expect, test } from "vitest";
import { Creations } from "./creations.ts";
import { quiet } from "./testing/clock.ts";

const never = new AbortController().signal;

test("callers with the same key share the work; a later call starts new work", async () => {
  let runs = 0;
  const flights = new Creations<number>(() => undefined);
  const start = async () => {
    runs += 1;
    return runs;
  };
  const both = [flights.run("k", "o", "s", never, start), flights.run("k", "o", "s", never, start)];
  expect(await Promise.all(both)).toEqual([1, 1]);
  expect(await flights.run("k", "o", "s", never, start)).toBe(2);
});

test("work continues when its caller gives up; a timely retry gets its result", async () => {
  const unclaimed: string[] = [];
  const flights = new Creations<string>((result) => unclaimed.push(result));
  const work = Promise.withResolvers<string>();
  const giveUp = new AbortController();
  const first = flights.run("k", "pod p", "start", giveUp.signal, () => work.promise);
  giveUp.abort();
  await expect(first).rejects.toThrow("the retry gets its result");
  const retry = flights.run("k", "pod p", "start", never, async () => "made twice");
  work.resolve("made once");
  expect(await retry).toBe("made once");
  expect(unclaimed).toEqual([]);
});

test("an unclaimed result is passed to onUnclaimed", async () => {
  const unclaimed: string[] = [];
  const flights = new Creations<string>((result) => unclaimed.push(result));
  const work = Promise.withResolvers<string>();
  const giveUp = new AbortController();
  const only = flights.run("k", "o", "s", giveUp.signal, () => work.promise);
  giveUp.abort();
  await expect(only).rejects.toMatchObject({ code: "Cancelled" });
  work.resolve("orphan");
  await quiet();
  expect(unclaimed).toEqual(["orphan"]);
});
