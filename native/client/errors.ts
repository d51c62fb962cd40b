// The shape of every error that Keelson answers with, and how a package declares its own.
//
// Each package has an errors.ts with a catalogue named after it, such as podErrors: name, gRPC code, sentence with
// blanks, remedy. In this package each subject has its own: hostErrors, monitorErrors, unpackerErrors. The shape stands
// here, in the lowest package, because every other one imports it.

/** The gRPC codes that CRI clients tell apart (https://grpc.io/docs/guides/status-codes/). */
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
  /** What happened to which object at which step; `{name}` is a blank. */
  readonly sentence: string;
  /** What the reader can do about it; may use the same blanks. */
  readonly remedy: string;
}

/** An error with a place in a catalogue. Its message is the sentence and the remedy. */
export class KeelsonError extends Error {
  override readonly name: string;
  readonly code: StatusCode;

  constructor(name: string, code: StatusCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = name;
    this.code = code;
  }
}

type Blanks<Text extends string> = Text extends `${string}{${infer Name}}${infer Rest}` ? Name | Blanks<Rest> : never;

type Values<Entry extends CatalogueEntry> = {
  readonly [Name in Blanks<Entry["sentence"]> | Blanks<Entry["remedy"]>]: string | number;
};

/** Each name makes its error, and carries its entry for the reference of errors. */
export type Catalogue<Entries extends Record<string, CatalogueEntry>> = {
  readonly [Name in keyof Entries]: ((values: Values<Entries[Name]>, cause?: unknown) => KeelsonError) & CatalogueEntry;
};

/** Turns entries into functions that make the error: `imageErrors.imageNotFound({ reference })`. */
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

/** Characters of one blank: what fills it may come from an image, a registry or a plugin, and goes into the log. */
const blankLimit = 2000;

/** A value that ends its own sentence ends the template's with it. */
function fill(text: string, values: Readonly<Record<string, string | number>>): string {
  return text.replaceAll(/\{(\w+)\}(\.?)/g, (blank, name: string, stop: string) => {
    const value = cut(String(values[name] ?? blank));
    return /[.!?…]$/.test(value) ? value : `${value}${stop}`;
  });
}

/** Where a UTF-16 pair is cut in two, U+FFFD stands for its half: clients refuse an answer that is no UTF-8. */
function cut(text: string): string {
  return (text.length > blankLimit ? `${text.slice(0, blankLimit)}…` : text).toWellFormed();
}

/** What was thrown, in words: its message, without a stack. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Whether it is one of these errors of a system call, as Node tells them: "ENOENT", "EEXIST" … */
export function isErrno(thrown: unknown, ...codes: readonly string[]): boolean {
  return thrown instanceof Error && "code" in thrown && codes.some((code) => code === thrown.code);
}

/** What was thrown, as one line for a sentence or the log. */
export function firstLine(thrown: unknown): string {
  return messageOf(thrown).split("\n", 1)[0] ?? "";
}
