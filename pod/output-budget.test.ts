// The shared output budget: small slots for all, a few large ones, waiting in order, released once.

import { expect, test } from "vitest";
import { OutputBudget } from "./output-budget.ts";
import { holdTime, pass, quiet } from "./testing/clock.ts";

holdTime();

const little = 100;
const much = 1 << 20;
/** The same as in output-budget.ts. */
const largePlaces = 3;

function full(budget: OutputBudget) {
  const rooms = Array.from({ length: largePlaces }, (_, index) => budget.room(`c${index}`));
  for (const room of rooms) {
    expect(room.hold(little)).toBeUndefined();
    expect(room.hold(much)).toBeUndefined();
  }
  return rooms;
}

test("small outputs never wait, regardless of what others hold", () => {
  const budget = new OutputBudget(() => undefined);
  full(budget);
  for (let index = 0; index < 400; index += 1) expect(budget.room("probe").hold(little)).toBeUndefined();
});

test("large outputs wait for a large slot, first come first served", async () => {
  const budget = new OutputBudget(() => undefined);
  const [first, second] = full(budget);
  const served: string[] = [];
  const wait = (name: string) => {
    const room = budget.room(name);
    room.hold(little);
    void room.hold(much)?.then(() => served.push(name));
    return room;
  };
  const d = wait("d");
  wait("e");
  expect(d.hold(much + 1), "it is already waiting").toBeUndefined();
  await quiet();
  expect(served).toEqual([]);
  first?.leave();
  await quiet();
  expect(served).toEqual(["d"]);
  second?.leave();
  await quiet();
  expect(served).toEqual(["d", "e"]);
});

test("a call that waits too long gets a clear error and takes no slot later", async () => {
  const budget = new OutputBudget(() => undefined);
  const [first] = full(budget);
  const late = budget.room("late");
  late.hold(little);
  const waiting = late.hold(much);
  waiting?.catch(() => undefined);
  await pass(10_000);
  await expect(waiting).rejects.toMatchObject({ code: "ResourceExhausted", message: expect.stringContaining("late") });
  late.leave();
  first?.leave();
  const next = budget.room("next");
  next.hold(little);
  expect(next.hold(much), "the slot is free").toBeUndefined();
});

test("a call that leaves while waiting passes its slot on", async () => {
  const budget = new OutputBudget(() => undefined);
  const [first] = full(budget);
  const gone = budget.room("gone");
  gone.hold(little);
  void gone.hold(much);
  gone.leave();
  first?.leave();
  await quiet();
  const next = budget.room("next");
  next.hold(little);
  expect(next.hold(much)).toBeUndefined();
});

test("a slot is released once, and only the release of a large one is reported", () => {
  let reports = 0;
  const budget = new OutputBudget(() => {
    reports += 1;
  });
  const small = budget.room("small");
  small.hold(little);
  small.leave();
  expect(reports).toBe(0);
  const [first] = full(budget);
  first?.leave();
  first?.leave();
  expect(reports).toBe(1);
  const [fourth, fifth] = [budget.room("d"), budget.room("e")];
  for (const room of [fourth, fifth]) room.hold(little);
  expect(fourth.hold(much)).toBeUndefined();
  expect(fifth.hold(much), "only one slot was free").toBeInstanceOf(Promise);
});
