// The manual pages, generated from the command line's help and its table of settings: manual.ts 8 for keelson(8), 5 for
// keelson.toml(5).

import { readFileSync } from "node:fs";
import { commands } from "../cli/commands.ts";
import { defaultConfigFile } from "../cli/config.ts";
import { overview, pages } from "../cli/help.ts";
import { sampleConfig, settings } from "../cli/settings.ts";

/** keelson(8): the overview, then each command's page as a section. */
export function commandManual(version: string): string {
  const [, ...about] = blocks(overview);
  const sections = [...pages].map(([command, page]) => {
    const [title = "", ...rest] = blocks(page);
    return `.SS ${escaped(title.replace(/^keelson ([a-z]+): .*$/s, "keelson $1"))}\n${summaryOf(command)}${rest.map(roff).join("")}`;
  });
  return `.TH KEELSON 8 "" "Keelson ${version}" "System Administration"
.SH NAME
keelson \\- Kubernetes CRI server
.SH SYNOPSIS
.nf
${commands.map(({ name, operands }) => `\\fBkeelson ${name}\\fR ${escaped(`[options] ${operands}`)}`.trim()).join("\n")}
.fi
.SH DESCRIPTION
${about.map(roff).join("")}.SH COMMANDS
${sections.join("")}.SH FILES
.TP
.I ${escaped(defaultConfigFile)}
The configuration; see keelson.toml(5).
.TP
.I /usr/lib/keelson/cni
Keelson's own network plugins; used if cni.bin_dirs contains this directory.
.TP
.I /usr/share/doc/keelson/METRICS.md
The Prometheus metrics.
.SH SEE ALSO
keelson.toml(5), crictl(1), systemd(1)
`;
}

/** keelson.toml(5): each key of the table of settings, and the sample. */
export function configurationManual(version: string): string {
  const keys = Object.values(settings).map(({ key, effect, wanted, ...rest }) => {
    const usual = "fallback" in rest ? `Default: ${[rest.fallback].flat().join(", ")}.` : "No default.";
    return `.TP\n.B ${escaped(key.replace("*", "NAME"))}\n${escaped(`${effect} Value: ${wanted}. ${usual}`)}\n`;
  });
  return `.TH KEELSON.TOML 5 "" "Keelson ${version}" "File Formats"
.SH NAME
keelson.toml \\- configuration of keelson(8)
.SH SYNOPSIS
.I ${escaped(defaultConfigFile)}
.br
.I ${escaped(`${defaultConfigFile}.d/*.toml`)}
.SH DESCRIPTION
${escaped("The file is TOML. Files in the directory override it, in the order of their names, and command line flags override both. An unknown key is an error. A dotted key below is a key in the table named before its last dot.")}
.SH KEYS
${keys.join("")}.SH EXAMPLE
The output of
.B keelson config \\-\\-default
is:
.PP
.nf
${sampleConfig().trimEnd().split("\n").map(escaped).join("\n")}
.fi
.SH SEE ALSO
keelson(8)
`;
}

function summaryOf(command: string): string {
  const known = commands.find(({ name }) => name === command);
  return known === undefined ? "" : `.PP\n${escaped(known.summary)}\n`;
}

function blocks(page: string): readonly string[] {
  return page.trimEnd().split(/\n{2,}/);
}

/** Plain paragraphs are filled; text with columns or indentation is kept verbatim, below its heading if it has one. */
function roff(block: string): string {
  const lines = block.split("\n");
  const [first = ""] = lines;
  const isHeading = /^[A-Z][\w ]*:$/.test(first);
  const body = isHeading ? lines.slice(1) : lines;
  const heading = isHeading ? `.PP\n.B ${escaped(first.slice(0, -1))}\n` : "";
  if (body.length === 0) return heading;
  const isPlain = body.every((line) => !/^ |\S {2,}\S/.test(line));
  const text = body.map(escaped).join("\n");
  return isPlain ? `${heading}.PP\n${text}\n` : `${heading}.PP\n.nf\n${text}\n.fi\n`;
}

/** Escapes text for groff: no accidental escapes or requests, and hyphens that can be copied. */
function escaped(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/, "\\&$1");
}

if (import.meta.main) {
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  process.stdout.write(process.argv[2] === "5" ? configurationManual(version) : commandManual(version));
}
