// What was thrown, as one line for a sentence or the log.

/** The first line of what was thrown, without its stack. */
export function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split("\n", 1)[0] ?? "";
}
