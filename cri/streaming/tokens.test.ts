import { expect, test } from "vitest";
import { negotiate } from "./negotiate.ts";
import { ResizeReader } from "./remote-command.ts";
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

test("a thousand may wait; expired ones make room", () => {
  let now = 0;
  const tokens = new Tokens<number>(() => now);
  for (let index = 0; index < 1000; index += 1) tokens.issue(index);
  expect(() => tokens.issue(1000)).toThrow("1000 streaming URLs");
  now = 60_001;
  expect(tokens.issue(1001)).toBeTruthy();
});

test.each([
  [["v5.channel.k8s.io", "v4.channel.k8s.io"], "v4.channel.k8s.io"],
  [["channel.k8s.io, v4.channel.k8s.io"], "channel.k8s.io"],
  [["v9"], undefined],
  [[], undefined],
])("of %j the client's first that we know is %s", (offered, chosen) => {
  expect(negotiate(offered, ["v4.channel.k8s.io", "channel.k8s.io"])).toBe(chosen);
});

test("sizes come one after the other, cut anywhere; nonsense is passed over", () => {
  const reader = new ResizeReader();
  const text = '{"Width":80,"Height":24}{"Width":70000,"Height":1}{"no":1}{"Width":132,"Height":50}';
  const sizes = [...text].flatMap((letter) => [...reader.feed(Buffer.from(letter))]);
  expect(sizes).toEqual([
    { columns: 80, rows: 24 },
    { columns: 132, rows: 50 },
  ]);
  expect([...reader.feed(Buffer.alloc(100_000, 120))]).toEqual([]);
});
