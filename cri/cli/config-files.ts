// Reads config.toml and config.toml.d/*.toml into one flat map of dotted keys, checked against the known ones.

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { parse, TomlDate, TomlError } from "smol-toml";
import { firstLine, isErrno } from "../../native/index.ts";
import { criErrors } from "../errors.ts";

/** A configuration key: how its value is parsed, and what to report if it is invalid. */
export interface Setting<Value> {
  readonly key: string;
  readonly wanted: string;
  /** Undefined if the value is invalid. */
  parse(value: unknown): Value | undefined;
}

/** Values by dotted key, as TOML has them. */
export type SettingValues = ReadonlyMap<string, unknown>;

/** TOML must be UTF-8. Without `fatal`, other bytes would be silently replaced, in paths too. */
const utf8 = new TextDecoder("utf-8", { fatal: true });

type KnownSettings = readonly Setting<unknown>[];

/** Reads the file, its drop-ins in the order of their names, then the flags; a `required` file must exist. */
export async function readSettings(
  file: string,
  required: boolean,
  flags: ReadonlyMap<string, unknown>,
  known: KnownSettings,
): Promise<SettingValues> {
  const values = new Map<string, unknown>();
  for (const path of [file, ...(await dropIns(`${file}.d`))]) {
    const text = await read(path, path === file && !required);
    if (text !== undefined) collect(values, path, flatten(parseToml(path, text), "", known), known);
  }
  collect(values, "The command line", flags, known);
  return values;
}

async function dropIns(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return [];
    throw criErrors.configUnreadable({ file: directory, reason: firstLine(error) }, error);
  });
  // Like a shell's *.toml, skips dot files, such as an editor's lock of an open file (.#10.toml, a dangling symlink).
  return names
    .filter((name) => name.endsWith(".toml") && !name.startsWith("."))
    .sort()
    .map((name) => join(directory, name));
}

async function read(path: string, mayBeMissing: boolean): Promise<string | undefined> {
  try {
    // Opening one waits for a writer. /dev/null is allowed, because a link to it disables a drop-in.
    if ((await stat(path)).isFIFO()) throw new Error("it is a FIFO");
    return utf8.decode(await readFile(path));
  } catch (error) {
    if (mayBeMissing && isErrno(error, "ENOENT")) return undefined;
    throw criErrors.configUnreadable({ file: path, reason: firstLine(error) }, error);
  }
}

function parseToml(file: string, text: string): object {
  try {
    return parse(text);
  } catch (error) {
    const place = error instanceof TomlError ? ` (line ${error.line}, column ${error.column})` : "";
    throw criErrors.configSyntax({ file, reason: `${firstLine(error)}${place}` }, error);
  }
}

/** Descends into tables that contain a known key. A table with a user-chosen name must not be empty. */
function flatten(table: object, prefix: string, known: KnownSettings): Map<string, unknown> {
  const flat = new Map<string, unknown>();
  for (const [name, value] of Object.entries(table)) {
    const key = `${prefix}${name}`;
    const isTable =
      typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof TomlDate);
    const leads = known.filter((setting) => leadsTo(key, setting.key));
    const isNamed = leads.some((setting) => setting.key.split(".")[key.split(".").length - 1] === "*");
    if (isTable && leads.length > 0 && !(isNamed && Object.keys(value).length === 0)) {
      for (const [below, content] of flatten(value, `${key}.`, known)) flat.set(below, content);
    } else {
      flat.set(key, value);
    }
  }
  return flat;
}

function collect(into: Map<string, unknown>, file: string, values: ReadonlyMap<string, unknown>, known: KnownSettings) {
  for (const [key, value] of values) {
    const setting = known.find((candidate) => matches(key, candidate.key));
    if (setting === undefined) throw criErrors.configUnknownKey({ file, key, hint: hint(key, known) });
    if (setting.parse(value) === undefined) {
      throw criErrors.configType({ file, key, value: JSON.stringify(value) ?? String(value), wanted: setting.wanted });
    }
    into.set(key, value);
  }
}

function matches(key: string, pattern: string): boolean {
  const names = key.split(".");
  const wanted = pattern.split(".");
  return names.length === wanted.length && wanted.every((name, n) => name === "*" || name === names[n]);
}

function leadsTo(table: string, pattern: string): boolean {
  const names = table.split(".");
  const wanted = pattern.split(".");
  return names.length < wanted.length && names.every((name, n) => wanted[n] === "*" || wanted[n] === name);
}

/** The only key below it, or the known key with the smallest edit distance, if at most half the key's length. */
function hint(key: string, known: KnownSettings): string {
  const [below, ...others] = known.filter((setting) => leadsTo(key, setting.key));
  if (below !== undefined && others.length === 0) {
    const rest = below.key.split(".").slice(key.split(".").length);
    return `Did you mean ${[key, ...rest].join(".")}?`;
  }
  const all = known.map((setting) => setting.key.replace("*", "<name>"));
  const [nearest] = all
    .map((candidate) => ({ candidate, distance: editDistance(key, candidate) }))
    .sort((a, b) => a.distance - b.distance);
  if (nearest !== undefined && nearest.distance <= key.length / 2) return `Did you mean ${nearest.candidate}?`;
  return `The known keys are ${all.join(", ")}.`;
}

/** Levenshtein distance: insertions, deletions and replacements of one character. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
