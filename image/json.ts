// Reading JSON documents that come from outside (registries, archives).
//
// Objects become Maps, so that no key (`__proto__`, `constructor`) can reach a prototype,
// and every field is checked for its type when it is read.

export type Json = null | boolean | number | string | readonly Json[] | ReadonlyMap<string, Json>;

/** A document has the wrong shape; the message names the field. */
export class MalformedJson extends Error {}

/** Parses a whole document whose top is an object. Throws MalformedJson. */
export function parseJsonObject(bytes: Buffer): JsonObject {
  const value = parseJson(bytes);
  if (!(value instanceof Map)) throw new MalformedJson("its top is not an object");
  return new JsonObject(value, "");
}

/** Parses a whole document whose top is a list of objects. Throws MalformedJson. */
export function parseJsonList(bytes: Buffer): readonly JsonObject[] {
  return new JsonObject(new Map([["", parseJson(bytes)]]), "").objects("");
}

function parseJson(bytes: Buffer): Json {
  try {
    return JSON.parse(bytes.toString("utf8"), (_key, part) =>
      part !== null && typeof part === "object" && !Array.isArray(part) ? new Map(Object.entries(part)) : part,
    );
  } catch (error) {
    throw new MalformedJson(`it is not JSON (${error instanceof Error ? error.message : String(error)})`);
  }
}

/** An object with typed access; a field that is null counts as missing, as in Docker's documents. */
export class JsonObject {
  readonly #fields: ReadonlyMap<string, Json>;
  readonly #path: string;

  constructor(fields: ReadonlyMap<string, Json>, path: string) {
    this.#fields = fields;
    this.#path = path;
  }

  has(key: string): boolean {
    const value = this.#fields.get(key);
    return value !== undefined && value !== null;
  }

  string(key: string): string | undefined {
    if (!this.has(key)) return undefined;
    const value = this.#fields.get(key);
    if (typeof value !== "string") throw this.#wrong(key, "a string");
    return value;
  }

  /** A whole number from 0 to 2^53-1. */
  count(key: string): number | undefined {
    if (!this.has(key)) return undefined;
    const value = this.#fields.get(key);
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
      throw this.#wrong(key, "a whole number");
    }
    return value;
  }

  object(key: string): JsonObject | undefined {
    if (!this.has(key)) return undefined;
    const value = this.#fields.get(key);
    if (!(value instanceof Map)) throw this.#wrong(key, "an object");
    return new JsonObject(value, `${this.#path}${key}.`);
  }

  objects(key: string): readonly JsonObject[] {
    return this.#list(key).map((item, index) => {
      if (!(item instanceof Map)) throw this.#wrong(`${key}[${index}]`, "an object");
      return new JsonObject(item, `${this.#path}${key}[${index}].`);
    });
  }

  strings(key: string): readonly string[] {
    return this.#list(key).map((item, index) => {
      if (typeof item !== "string") throw this.#wrong(`${key}[${index}]`, "a string");
      return item;
    });
  }

  keys(): readonly string[] {
    return [...this.#fields.keys()];
  }

  /** A map of strings, such as labels and annotations. */
  texts(key: string): ReadonlyMap<string, string> {
    const object = this.object(key);
    const texts = new Map<string, string>();
    for (const name of object?.keys() ?? []) texts.set(name, object?.string(name) ?? "");
    return texts;
  }

  #list(key: string): readonly Json[] {
    if (!this.has(key)) return [];
    const value = this.#fields.get(key);
    if (!Array.isArray(value)) throw this.#wrong(key, "a list");
    return value;
  }

  #wrong(key: string, kind: string): MalformedJson {
    return new MalformedJson(`its field ${this.#path}${key} is not ${kind}`);
  }
}
