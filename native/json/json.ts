// Untrusted JSON (from registries, plugins, monitors, files), with types.
//
// Objects come from JSON.parse, where `__proto__` is an ordinary own member; only own members are read, and copying by
// spread keeps `__proto__` an own member.
//
// Limits: the number of values in a document (`valueLimit`) and their depth (`depthLimit`), checked before parsing:
// 4 MiB of "{}," would block the event loop for a second and take 900 MB. The caller must limit the text's length.

const valueLimit = 65_536;
const depthLimit = 64;

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [member: string]: Json;
}

/** A document is not JSON, or has the wrong shape. The message quotes nothing of the text. */
export class MalformedJson extends Error {}

/** Parses a whole document. Throws MalformedJson. */
export function parseJson(text: string): Json {
  checkShape(text);
  try {
    return JSON.parse(withWholeCharacters(text));
  } catch (error) {
    // The parser's own message quotes the text, which may be a file that its owner did not mean to disclose.
    throw new MalformedJson("it is not JSON", { cause: error });
  }
}

/** The parsed text if it is a JSON object; otherwise undefined. */
export function parseObject(text: string): JsonObject | undefined {
  try {
    return asObject(parseJson(text));
  } catch {
    return undefined;
  }
}

/** An own member, or undefined. */
export function member(object: JsonObject, name: string): Json | undefined {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

export function asObject(value: Json | undefined): JsonObject | undefined {
  return isObject(value) ? value : undefined;
}

export function asArray(value: Json | undefined): readonly Json[] | undefined {
  return isArray(value) ? value : undefined;
}

export function asString(value: Json | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}

export function asInteger(value: Json | undefined): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) ? value : undefined;
}

/** The object without some of its members. */
export function without(object: JsonObject, ...names: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
}

function isArray(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !isArray(value);
}

/**
 * Replaces escapes of lone UTF-16 surrogates (\ud800) with U+FFFD, as Go's decoder does. They cannot be encoded in
 * UTF-8: clients would reject a whole response because of one string in an image.
 */
function withWholeCharacters(text: string): string {
  if (!/\\ud[89a-f]/i.test(text)) return text;
  const escapes = /\\ud[89ab][\da-f]{2}\\ud[c-f][\da-f]{2}|\\ud[89a-f][\da-f]{2}|\\./gis;
  const aloneLength = "\\ud800".length;
  return text.replaceAll(escapes, (found) => (found.length === aloneLength ? "\\ufffd" : found));
}

/** Counts the brackets and commas that open or separate values, outside of strings. */
function checkShape(text: string): void {
  let values = 0;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x22: // "
        at = endOfString(text, at + 1);
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

/** Position of the string's closing quote, or the end of the text. */
function endOfString(text: string, start: number): number {
  let at = start;
  while (at < text.length && text.charCodeAt(at) !== 0x22) at += text.charCodeAt(at) === 0x5c ? 2 : 1;
  return at;
}
