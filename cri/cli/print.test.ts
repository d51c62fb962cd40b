// Sizes, durations, columns and JSON in the output of commands.

import { expect, test } from "vitest";
import { columns, duration, json, size } from "./print.ts";

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1.0 kB"],
  [1_550_000, "1.6 MB"],
  [12_340_000, "12 MB"],
  [7.2e15, "7200 TB"],
])("%d bytes are %s", (bytes, text) => expect(size(bytes)).toBe(text));

test.each([
  [0.04, "0.0 s"],
  [9.94, "9.9 s"],
  [45, "45 s"],
  [60, "1 min"],
  [125, "2 min"],
  [7500, "2 h 5 min"],
  [86_400, "1 d"],
  [270_000, "3 d 3 h"],
])("%d seconds are %s", (seconds, text) => expect(duration(seconds)).toBe(text));

test("columns are as wide as their longest cell, and lines have no trailing spaces", () => {
  expect(
    columns([
      ["a", "bb", ""],
      ["ccc", "d", "e"],
    ]),
  ).toBe("a    bb\nccc  d   e\n");
});

test("64-bit numbers are numbers in JSON", () => expect(JSON.parse(json({ bytes: 12n }))).toEqual({ bytes: 12 }));
