// Escapes untrusted text (from registries, network plugins, containers) for printing to a terminal: control characters
// could clear its screen, set its title, or make it send input as if somebody typed.

/** Escapes control characters except newlines and tabs, for example as \x1b. */
export function plain(text: string): string {
  return text.replaceAll(
    /(?![\n\t])\p{Cc}/gu,
    (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

export function plainLine(text: string): string {
  return plain(text.replaceAll(/[\r\n]+/g, " "));
}
