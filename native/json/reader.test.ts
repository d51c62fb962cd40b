import { expect, test } from "vitest";
import { MalformedJson } from "./json.ts";
import { readJsonList, readJsonObject } from "./reader.ts";

const read = (value: unknown) => readJsonObject(Buffer.from(JSON.stringify(value)));

test("reads each kind of field", () => {
  const reader = read({ s: "text", c: 7, o: { s: "inner" }, os: [{ s: "x" }], ss: ["a", "b"], t: { k: "v", n: null } });
  expect(reader.string("s")).toBe("text");
  expect(reader.count("c")).toBe(7);
  expect(reader.object("o")?.string("s")).toBe("inner");
  expect(reader.objects("os").map((each) => each.string("s"))).toEqual(["x"]);
  expect(reader.strings("ss")).toEqual(["a", "b"]);
  expect(reader.texts("t")).toEqual(
    new Map([
      ["k", "v"],
      ["n", ""],
    ]),
  );
  expect(reader.keys()).toEqual(["s", "c", "o", "os", "ss", "t"]);
});

test("null and inherited members count as missing", () => {
  const reader = read({ none: null });
  for (const key of ["none", "absent", "toString", "__proto__"]) {
    expect(reader.has(key), key).toBe(false);
    expect(reader.string(key), key).toBeUndefined();
    expect(reader.objects(key), key).toEqual([]);
  }
  expect(reader.texts("absent")).toEqual(new Map());
});

test.each<[string, (reader: ReturnType<typeof read>) => unknown]>([
  ["its field a is not a string", (reader) => reader.string("a")],
  ["its field negative is not a whole number", (reader) => reader.count("negative")],
  ["its field half is not a whole number", (reader) => reader.count("half")],
  ["its field list is not an object", (reader) => reader.object("list")],
  ["its field a is not a list", (reader) => reader.strings("a")],
  ["its field list[1] is not a string", (reader) => reader.strings("list")],
  ["its field list[0] is not an object", (reader) => reader.objects("list")],
  ["its field deep.er.a is not a string", (reader) => reader.object("deep")?.object("er")?.string("a")],
])("%s", (sentence, use) => {
  const reader = read({ a: 1, negative: -1, half: 0.5, list: ["x", 2], deep: { er: { a: 1 } } });
  expect(() => use(reader)).toThrow(new MalformedJson(sentence));
});

test("the type of the top-level value is checked", () => {
  expect(() => readJsonObject(Buffer.from("[]"))).toThrow("its top level is not an object");
  expect(readJsonList(Buffer.from('[{"a":"x"}]'))[0]?.string("a")).toBe("x");
  expect(() => readJsonList(Buffer.from("{}"))).toThrow(MalformedJson);
});
