// The undo stack: in reverse order, continuing after failures and hangs, each step with its own time limit.

import { expect, test } from "vitest";
import { holdTime, pass, quiet } from "./testing/clock.ts";
import { UndoStack } from "./undo.ts";

holdTime();

test("runs in reverse order, continues after failures and hangs, and reports them", async () => {
  const order: string[] = [];
  const undo = new UndoStack(50);
  undo.push("first", async () => void order.push("first"));
  undo.push("hangs", async () => await new Promise(() => undefined));
  undo.push("fails", async () => {
    order.push("fails");
    throw new Error("no");
  });
  undo.push("last", async () => void order.push("last"));
  const unwinding = undo.unwind();
  await quiet();
  expect(order, "the earlier one waits for the one that hangs").toEqual(["last", "fails"]);
  await pass(50);
  expect(await unwinding).toEqual([
    { step: "fails", reason: "no" },
    { step: "hangs", reason: "timed out after 50 ms" },
  ]);
  expect(order).toEqual(["last", "fails", "first"]);
});

test("undoes each step once", async () => {
  let runs = 0;
  const undo = new UndoStack(50);
  undo.push("step", async () => {
    runs += 1;
    throw new Error("no");
  });
  await undo.unwind();
  expect(await undo.unwind()).toEqual([]);
  expect(runs).toBe(1);
});

test("gives each step the full time limit", async () => {
  const undo = new UndoStack(50);
  const slow = async () => await new Promise<void>((resolve) => setTimeout(resolve, 40));
  for (const step of ["a", "b", "c"]) undo.push(step, slow);
  const unwinding = undo.unwind();
  for (let step = 0; step < 3; step += 1) await pass(40);
  expect(await unwinding).toEqual([]);
});
