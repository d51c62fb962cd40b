// The type of every error that Keelson returns, and how a package declares its errors.
//
// Each package has an errors.ts with a catalogue named after it, such as podErrors: name, gRPC code, sentence with
// placeholders, remedy. This package has one for each subject: hostErrors, monitorErrors, unpackerErrors. The type is
// defined here, in the lowest package, because every other one imports it.

/** The gRPC codes that CRI clients distinguish (https://grpc.io/docs/guides/status-codes/). */
export type StatusCode =
  | "Cancelled"
  | "Unknown"
  | "InvalidArgument"
  | "DeadlineExceeded"
  | "NotFound"
  | "AlreadyExists"
  | "PermissionDenied"
  | "ResourceExhausted"
  | "FailedPrecondition"
  | "Aborted"
  | "OutOfRange"
  | "Unimplemented"
  | "Internal"
  | "Unavailable"
  | "Unauthenticated";

export interface CatalogueEntry {
  readonly code: StatusCode;
  /** What happened to which object at which step; `{name}` is a placeholder. */
  readonly sentence: string;
  /** What the reader can do about it; may use the same placeholders. */
  readonly remedy: string;
}

/** An error from a catalogue. Its message is the sentence and the remedy. */
export class KeelsonError extends Error {
  override readonly name: string;
  readonly code: StatusCode;

  constructor(name: string, code: StatusCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = name;
    this.code = code;
  }
}

type Placeholders<Text extends string> = Text extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Placeholders<Rest>
  : never;

type Values<Entry extends CatalogueEntry> = {
  readonly [Name in Placeholders<Entry["sentence"]> | Placeholders<Entry["remedy"]>]: string | number;
};

/** Each name creates its error, and carries its entry for the error reference. */
export type Catalogue<Entries extends Record<string, CatalogueEntry>> = {
  readonly [Name in keyof Entries]: ((values: Values<Entries[Name]>, cause?: unknown) => KeelsonError) & CatalogueEntry;
};

/** Turns entries into functions that create the error: `imageErrors.imageNotFound({ reference })`. */
export function catalogue<const Entries extends Record<string, CatalogueEntry>>(entries: Entries): Catalogue<Entries>;
export function catalogue(entries: Record<string, CatalogueEntry>): Catalogue<Record<string, CatalogueEntry>> {
  return Object.fromEntries(
    Object.entries(entries).map(([name, entry]) => {
      const make = (values: Readonly<Record<string, string | number>>, cause?: unknown) =>
        new KeelsonError(name, entry.code, `${fill(entry.sentence, values)} ${fill(entry.remedy, values)}`, cause);
      return [name, Object.assign(make, entry)];
    }),
  );
}

/** Maximum characters of one value: it may come from an image, a registry or a plugin, and goes into the log. */
const valueLimit = 2000;

/** After a value that ends with a punctuation mark, the template's full stop is dropped. */
function fill(text: string, values: Readonly<Record<string, string | number>>): string {
  return text.replaceAll(/\{(\w+)\}(\.?)/g, (placeholder, name: string, stop: string) => {
    const value = truncate(String(values[name] ?? placeholder));
    return /[.!?…]$/.test(value) ? value : `${value}${stop}`;
  });
}

/** Replaces a UTF-16 surrogate pair cut in half with U+FFFD: clients reject a response that is not valid UTF-8. */
function truncate(text: string): string {
  return (text.length > valueLimit ? `${text.slice(0, valueLimit)}…` : text).toWellFormed();
}

/** The message of what was thrown, without a stack. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Whether it is a system call error with one of these Node.js codes: "ENOENT", "EEXIST" … */
export function isErrno(thrown: unknown, ...codes: readonly string[]): boolean {
  return thrown instanceof Error && "code" in thrown && codes.some((code) => code === thrown.code);
}

/** The first line of the message of what was thrown, for a sentence or the log. */
export function firstLine(thrown: unknown): string {
  return messageOf(thrown).split("\n", 1)[0] ?? "";
}
