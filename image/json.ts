// Reading JSON documents that come from outside (registries, archives).
//
// Objects become Maps, so that no key (`__proto__`, `constructor`) can reach a prototype,
// and every field is checked for its type when it is read.
//
// Bounds: values of one document (`valueLimit`) and their depth (`depthLimit`), looked at before anything is made of
// them: 4 MiB of "{}," would hold the event loop for a second and take 900 MB. The document's bytes are the caller's
// to bound. What a message quotes of a document is cut; what is not JSON at all is not quoted.

const valueLimit = 65_536;
const depthLimit = 64;

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
  checkShape(bytes);
  try {
    return JSON.parse(bytes.toString("utf8"), (_key, part) =>
      part !== null && typeof part === "object" && !Array.isArray(part) ? new Map(Object.entries(part)) : part,
    );
  } catch (error) {
    // The parser's own words quote the text, which may be a file that its owner did not mean to show.
    throw new MalformedJson("it is not JSON", { cause: error });
  }
}

/** Counts what opens or parts values, outside of strings. */
function checkShape(bytes: Buffer): void {
  let values = 0;
  let depth = 0;
  for (let at = 0; at < bytes.length; at++) {
    switch (bytes[at]) {
      case 0x22: // "
        at = endOfString(bytes, at + 1);
        break;
      case 0x5b: // [
      case 0x7b: // {
        values++;
        if (++depth > depthLimit) throw new MalformedJson(`it is deeper than ${depthLimit} levels`);
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth--;
        break;
      case 0x2c: // ,
        values++;
        break;
    }
    if (values > valueLimit) throw new MalformedJson(`it holds more than ${valueLimit} values`);
  }
}

/** Where the string's closing quote stands, or the end. */
function endOfString(bytes: Buffer, start: number): number {
  let at = start;
  while (at < bytes.length && bytes[at] !== 0x22) at += bytes[at] === 0x5c ? 2 : 1;
  return at;
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
    return new MalformedJson(`its field ${`${this.#path}${key}`.slice(0, 200)} is not ${kind}`);
  }
}
