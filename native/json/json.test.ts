import { expect, test } from "vitest";
import { threadTime } from "../testing/thread-time.ts";
import { MalformedJson, member, parseJson, parseObject, without } from "./json.ts";

test.each([
  ["4 MiB of empty objects", `{"a":[${"{},".repeat(1_398_000)}{}]}`, "more than 65536 values"],
  ["400,000 keys", `{${Array.from({ length: 400_000 }, (_, i) => `"${i}":1`).join(",")}}`, "more than 65536 values"],
  ["2,000,000 levels", `{"a":${"[".repeat(2_000_000)}${"]".repeat(2_000_000)}}`, "deeper than 64 levels"],
])("a document with %s is rejected before it is parsed", (_, made, problem) => {
  // As a flat string, like text that comes from outside.
  const text = Buffer.from(made).toString();
  const time = threadTime();
  expect(() => parseJson(text)).toThrow(expect.objectContaining({ message: expect.stringContaining(problem) }));
  expect(time()).toBeLessThan(150);
});

test("commas and brackets inside strings are not counted", () => {
  const text = `${"[{,".repeat(100_000)}\\"`;
  expect(parseJson(`{"a":"${text}"}`)).toEqual({ a: `${"[{,".repeat(100_000)}"` });
  for (const cut of ['{"a":"\\', '{"a":"']) expect(() => parseJson(cut)).toThrow(MalformedJson);
});

test("the error for invalid JSON does not quote the text", () => {
  expect(() => parseJson("root:x:0:0")).toThrow(/^it is not JSON$/);
});

test("a lone UTF-16 surrogate becomes U+FFFD in values and names, and text that only looks like one is kept", () => {
  const text = String.raw`{"\ud800k":"a\uDC00","three":"\ud83d\ud83d\uDE00","text":"\\ud800","turned":"\ude00\ud83dz"}`;
  expect(parseJson(text)).toEqual({
    "\ufffdk": "a\ufffd",
    three: "\ufffd\u{1f600}",
    text: "\\ud800",
    turned: "\ufffd\ufffdz",
  });
});

test("parseObject returns an object or undefined", () => {
  expect(parseObject('{"a":1}')).toEqual({ a: 1 });
  for (const text of ["[]", "1", "null", "", "{", '"a"']) expect(parseObject(text), text).toBeUndefined();
});

test("only own members are read, __proto__ among them", () => {
  const object = parseObject('{"__proto__":{"polluted":1},"kept":2,"dropped":3}') ?? {};
  expect(member(object, "polluted")).toBeUndefined();
  expect(member(object, "constructor")).toBeUndefined();
  expect(member(object, "__proto__")).toEqual({ polluted: 1 });
  const copy = without({ ...object }, "dropped");
  expect(JSON.stringify(copy)).toBe('{"__proto__":{"polluted":1},"kept":2}');
});
