// What others have written (registries, network plugins, containers) as it is printed: a terminal shows it and obeys none
// of it. Control characters would clear its screen, set its title, or have it answer as if somebody typed.

/** Control characters but line ends and tabs as \x1b and the like. */
export function plain(text: string): string {
  return text.replaceAll(
    /(?![\n\t])\p{Cc}/gu,
    (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

export function plainLine(text: string): string {
  return plain(text.replaceAll(/[\r\n]+/g, " "));
}
