// Tokens of streaming URLs: single use, valid for a minute, at most a thousand.

import { expect, test } from "vitest";
import { Tokens } from "./tokens.ts";

test("a token works once, within its minute, and cannot be guessed", () => {
  let now = 0;
  const tokens = new Tokens<string>(() => now);
  const [first, second] = [tokens.issue("a"), tokens.issue("b")];
  expect(Buffer.from(first, "base64url").length * 8).toBeGreaterThanOrEqual(128);
  expect(tokens.redeem(first)).toBe("a");
  expect(tokens.redeem(first)).toBeUndefined();
  expect(tokens.redeem("made up")).toBeUndefined();
  now = 60_000;
  expect(tokens.redeem(second)).toBeUndefined();
});

test("at most a thousand may wait; expired ones make room", () => {
  let now = 0;
  const tokens = new Tokens<number>(() => now);
  for (let index = 0; index < 1000; index += 1) tokens.issue(index);
  expect(() => tokens.issue(1000)).toThrow("1000 streaming URLs");
  now = 60_001;
  expect(tokens.issue(1001)).toBeTruthy();
});
