// The undo stack: last first, past failures and hangs, each within its time.

import { expect, test } from "vitest";
import { holdTime, pass, quiet } from "./testing/clock.ts";
import { UndoStack } from "./undo.ts";

holdTime();

test("runs last first, goes on past failures and hangs, and names them", async () => {
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
  expect(order, "the one before waits for the one that hangs").toEqual(["last", "fails"]);
  await pass(50);
  expect(await unwinding).toEqual([
    { step: "fails", reason: "no" },
    { step: "hangs", reason: "timed out after 50 ms" },
  ]);
  expect(order).toEqual(["last", "fails", "first"]);
});

test("takes each step back once", async () => {
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

test("gives each step the whole of its time", async () => {
  const undo = new UndoStack(50);
  const slow = async () => await new Promise<void>((resolve) => setTimeout(resolve, 40));
  for (const step of ["a", "b", "c"]) undo.push(step, slow);
  const unwinding = undo.unwind();
  for (let step = 0; step < 3; step += 1) await pass(40);
  expect(await unwinding).toEqual([]);
});
