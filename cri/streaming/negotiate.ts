// Which protocol client and server speak: the first of the client's that the server knows.

/** `offered`: header values, each maybe a list with commas. Undefined when nothing is common. */
export function negotiate(offered: readonly string[], known: readonly string[]): string | undefined {
  return offered
    .flatMap((value) => value.split(","))
    .map((name) => name.trim())
    .find((name) => known.includes(name));
}
