// Validation of single request fields: present, in range, in a format that is safe to use.
//
// `field` is always the name in CRI's .proto, so that an error says where to look.

import type Long from "long";
import type { StringMap } from "../../pod/types.ts";
import { criErrors } from "../errors.ts";

/** The message itself, or fieldMissing. */
export function required<Message>(message: Message | null | undefined, field: string, wanted: string): Message {
  if (message === null || message === undefined) throw criErrors.fieldMissing({ field, wanted });
  return message;
}

/** A non-empty string. */
export function requiredText(text: string | null | undefined, field: string, wanted: string): string {
  if (!text) throw criErrors.fieldMissing({ field, wanted });
  return text;
}

export function sandboxId(text: string): string {
  return requiredText(text, "pod_sandbox_id", "a sandbox's id");
}

export function containerId(text: string): string {
  return requiredText(text, "container_id", "a container's id");
}

/** The command of ExecSync and Exec. */
export function commandLine(words: readonly string[]): string[] {
  if (words.length === 0) throw criErrors.fieldMissing({ field: "cmd", wanted: "the command to run" });
  return words.map((text, n) => argument(text, `cmd[${n}]`));
}

/** execve(2) accepts anything except NUL. */
export function argument(text: string, field: string): string {
  if (text.includes("\0")) throw invalid(field, text, "text without NUL");
  return text;
}

/** A fieldInvalid error, with the value quoted and truncated to a readable length. */
export function invalid(field: string, value: unknown, wanted: string): Error {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return criErrors.fieldInvalid({ field, value: text.length > 200 ? `${text.slice(0, 200)}…` : text, wanted });
}

/** Text used in a file, a command line or a file name: no NUL and no line breaks. */
export function plainText(text: string | null | undefined, field: string): string {
  const value = text ?? "";
  if (/[\0\r\n]/.test(value)) throw invalid(field, value, "text without NUL and line breaks");
  return value;
}

/** A single word, suitable for a line of resolv.conf. */
export function word(text: string, field: string): string {
  if (!/^[^\s\p{Cc}]+$/u.test(text)) throw invalid(field, text, "one word without white space");
  return text;
}

/** Empty or absolute. `..` is refused, so that a path can be understood without resolving it. */
export function absolutePathOrEmpty(text: string | null | undefined, field: string): string {
  const path = plainText(text, field);
  if (path === "") return path;
  if (!path.startsWith("/") || path.split("/").includes(".."))
    throw invalid(field, path, "an absolute path without ..");
  return path;
}

export function absolutePath(text: string | null | undefined, field: string): string {
  return absolutePathOrEmpty(requiredText(text, field, "an absolute path"), field);
}

/** Empty or absolute, inside a container: `..` cannot lead out of it, and Kubernetes allows it. */
export function pathInContainer(text: string | null | undefined, field: string): string {
  const path = plainText(text, field);
  if (path !== "" && !path.startsWith("/")) throw invalid(field, path, "an absolute path");
  return path;
}

/** Empty, or a relative path that stays below its base directory. */
export function pathInside(text: string | null | undefined, field: string): string {
  const path = plainText(text, field);
  if (path.startsWith("/") || path.split("/").includes("..")) throw invalid(field, path, "a relative path without ..");
  return path;
}

/** A name that is also used as a path component. */
export function pathComponent(text: string | null | undefined, field: string): string {
  const name = plainText(text, field);
  if (name.includes("/") || name === "." || name === "..") throw invalid(field, name, "a name without slashes");
  return name;
}

export function intWithin(value: number | null | undefined, field: string, low: number, high: number): number {
  const number = value ?? 0;
  if (number < low || number > high) throw invalid(field, number, `a number from ${low} to ${high}`);
  return number;
}

/** The exact value of an int64 or uint64 field: nanoseconds do not fit a number. Absent is 0. */
export function toBigInt(value: Long | null | undefined): bigint {
  return value ? value.toBigInt() : 0n;
}

export function bigIntWithin(value: Long | null | undefined, field: string, low: bigint, high: bigint): bigint {
  const number = toBigInt(value);
  if (number < low || number > high) throw invalid(field, number, `a number from ${low} to ${high}`);
  return number;
}

/** Seconds, without an upper limit; the meaning of 0 depends on the call. */
export function timeout(value: Long | null | undefined): bigint {
  return bigIntWithin(value, "timeout", 0n, 2n ** 63n - 1n);
}

/** The name in `names` at the index of an enum value. */
export function enumName<Name extends string>(
  value: number | null | undefined,
  field: string,
  names: readonly Name[],
): Name {
  const name = names[value ?? 0];
  if (name === undefined)
    throw invalid(field, value, `one of ${names.map((known, n) => `${n} (${known})`).join(", ")}`);
  return name;
}

/** A protobuf map as a Map, in which keys like __proto__ are not special. */
export function stringMap(map: Readonly<Record<string, string>> | null | undefined): StringMap {
  return new Map(Object.entries(map ?? {}));
}

/** The field that `as` creates from the value, or none: with exactOptionalPropertyTypes absent is not undefined. */
export function present<Value, Field extends object>(
  value: Value | undefined,
  as: (value: Value) => Field,
): Partial<Field> {
  return value === undefined ? {} : as(value);
}
