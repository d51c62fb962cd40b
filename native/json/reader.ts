// Reads JSON documents field by field: each field's type is checked when it is read, and the error names the field.
// What an error quotes from a document is truncated.

import { asArray, asObject, asString, type Json, type JsonObject, MalformedJson, member, parseJson } from "./json.ts";

/** Parses a document whose top level is an object. Throws MalformedJson. */
export function readJsonObject(bytes: Buffer): JsonReader {
  const object = asObject(parseJson(bytes.toString("utf8")));
  if (object === undefined) throw new MalformedJson("its top level is not an object");
  return new JsonReader(object, "");
}

/** Parses a document whose top level is a list of objects. Throws MalformedJson. */
export function readJsonList(bytes: Buffer): readonly JsonReader[] {
  return new JsonReader({ "": parseJson(bytes.toString("utf8")) }, "").objects("");
}

/** An object with typed access; a field that is null counts as missing, as in Docker's documents. */
export class JsonReader {
  readonly #fields: JsonObject;
  readonly #path: string;

  constructor(fields: JsonObject, path: string) {
    this.#fields = fields;
    this.#path = path;
  }

  has(key: string): boolean {
    return this.#get(key) !== undefined;
  }

  string(key: string): string | undefined {
    return this.#typed(key, asString, "a string");
  }

  /** A whole number from 0 to 2^53-1. */
  count(key: string): number | undefined {
    return this.#typed(key, asCount, "a whole number");
  }

  object(key: string): JsonReader | undefined {
    const object = this.#typed(key, asObject, "an object");
    return object && new JsonReader(object, `${this.#path}${key}.`);
  }

  objects(key: string): readonly JsonReader[] {
    return this.#list(key).map((item, index) => {
      const object = asObject(item);
      if (object === undefined) throw this.#wrong(`${key}[${index}]`, "an object");
      return new JsonReader(object, `${this.#path}${key}[${index}].`);
    });
  }

  strings(key: string): readonly string[] {
    return this.#list(key).map((item, index) => {
      if (typeof item !== "string") throw this.#wrong(`${key}[${index}]`, "a string");
      return item;
    });
  }

  keys(): readonly string[] {
    return Object.keys(this.#fields);
  }

  /** A map of strings, such as labels and annotations. */
  texts(key: string): ReadonlyMap<string, string> {
    const object = this.object(key);
    return new Map(object?.keys().map((name) => [name, object.string(name) ?? ""]));
  }

  #list(key: string): readonly Json[] {
    return this.#typed(key, asArray, "a list") ?? [];
  }

  #typed<Type>(key: string, as: (value: Json | undefined) => Type | undefined, kind: string): Type | undefined {
    const value = this.#get(key);
    if (value === undefined) return undefined;
    const typed = as(value);
    if (typed === undefined) throw this.#wrong(key, kind);
    return typed;
  }

  #get(key: string): Json | undefined {
    return member(this.#fields, key) ?? undefined;
  }

  #wrong(key: string, kind: string): MalformedJson {
    return new MalformedJson(`its field ${`${this.#path}${key}`.slice(0, 200)} is not ${kind}`);
  }
}

function asCount(value: Json | undefined): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}
