// Compares api.proto with the definition of CRI v1: every name, number, type, oneof and RPC, in both directions.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import protobuf from "protobufjs";
import { expect, test } from "vitest";
import { imageMethods, runtimeMethods } from "./methods.ts";

const directory = import.meta.dirname;

/** A row without `since`; Signal's names are those of version 0.37. */
function facts(): string[] {
  const [, ...lines] = readFileSync(join(directory, "testdata/cri-v1.tsv"), "utf8").trimEnd().split("\n");
  return lines
    .map((line) => line.split("\t"))
    .filter((row) => row[6] !== "0.36 only")
    .map((row) => row.slice(0, 6).join(" | "));
}

function contract(): string[] {
  const root = protobuf.parse(readFileSync(join(directory, "api.proto"), "utf8"), { keepCase: true }).root;
  const api = root.lookup("runtime.v1");
  if (!(api instanceof protobuf.Namespace)) throw new Error("api.proto has no package runtime.v1");
  return rowsOf(api, "");
}

function rowsOf(scope: protobuf.Namespace, prefix: string): string[] {
  return scope.nestedArray.flatMap((object) => {
    const name = `${prefix}${object.name}`;
    if (object instanceof protobuf.Service) return object.methodsArray.map((method) => rpcRow(name, method));
    if (object instanceof protobuf.Enum) {
      return Object.entries(object.values).map(([value, number]) => row("enum", name, value, String(number), "", ""));
    }
    if (!(object instanceof protobuf.Type)) throw new Error(`unexpected ${name}`);
    const fields = object.fieldsArray.map((field) => fieldRow(name, field));
    const nested = rowsOf(object, `${name}.`);
    const reserved = (object.reserved ?? []).map((range) => row("reserved", name, "", String(range), "", ""));
    return fields.length + nested.length === 0
      ? [row("message", name, "", "", "", ""), ...reserved]
      : [...fields, ...nested, ...reserved];
  });
}

function rpcRow(service: string, method: protobuf.Method): string {
  const request = `${method.requestStream ? "stream " : ""}${method.requestType}`;
  const response = `${method.responseStream ? "stream " : ""}${method.responseType}`;
  return row("rpc", service, method.name, "", request, response);
}

function fieldRow(message: string, field: protobuf.Field): string {
  const type =
    field instanceof protobuf.MapField
      ? `map<${field.keyType},${field.type}>`
      : `${field.repeated ? "repeated " : ""}${field.type}`;
  return row("field", message, field.name, String(field.id), type, field.partOf?.name ?? "");
}

function row(...cells: string[]): string {
  return cells.join(" | ");
}

test("api.proto defines exactly what CRI v1 defines", () => {
  const wanted = facts();
  const written = contract();
  expect(wanted.length).toBeGreaterThan(500);
  expect(written.filter((line) => !wanted.includes(line))).toEqual([]);
  expect(wanted.filter((line) => !written.includes(line))).toEqual([]);
  expect(written.length).toBe(new Set(written).size);
});

test("the method tables contain every RPC, streaming where CRI streams", () => {
  const rpcs = (service: string) =>
    Object.fromEntries(
      facts()
        .map((line) => line.split(" | "))
        .filter(([kind, owner]) => kind === "rpc" && owner === service)
        .map(([, , name, , , response]) => [name, response?.startsWith("stream ") ? "stream" : "unary"]),
    );
  const kinds = (methods: Record<string, { kind: string }>) =>
    Object.fromEntries(Object.entries(methods).map(([name, { kind }]) => [name, kind]));
  expect(kinds(runtimeMethods)).toEqual(rpcs("RuntimeService"));
  expect(kinds(imageMethods)).toEqual(rpcs("ImageService"));
});
