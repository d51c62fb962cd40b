// The package's copyright file (Debian's machine-readable format): Keelson's licence and those of the bundled software.
// Takes the paths of npm packages on stdin, and the path of the Node.js package as the argument.
import { globSync, readdirSync, readFileSync } from "node:fs";

interface Bundled {
  readonly files: string;
  readonly licence: string;
  readonly text: string;
}

/** Debian packages linked into our binaries; their copyright files are read from the build machine. */
const linked = [
  ["dist/native/build/keelson-unpack", "libzstd-dev"],
  ["dist/native/build/keelson-unpack cni/*", "libssl-dev"],
  ["cni/*", "libnftnl-dev"],
  ["dist/native/build/* cni/*", globSync("libstdc++-*-dev", { cwd: "/usr/share/doc" })[0] ?? ""],
] as const;

const [runtime = ""] = process.argv.slice(2);
const packages = readFileSync(0, "utf8").trim().split("\n");
process.stdout.write(`Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: keelson
Comment: Each stanza below the first covers bundled software, with the original licence text.
 The programs under cni/ are linked with libnftnl (GPL-2+) and as a whole are under the GPL, version 3.

Files: *
Copyright: the Keelson authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.

${stanzas([...packages.map(npmPackage), npmPackage(runtime), ...linked.map(debianPackage)])}`);

/** One stanza per licence text: many packages share the same one. */
function stanzas(all: readonly Bundled[]): string {
  const byText = Map.groupBy(all, ({ licence, text }) => `${licence}\n${text}`);
  return [...byText.values()]
    .map((same) => {
      const [{ licence, text } = { licence: "", text: "" }] = same;
      const holders = text.match(/^.*copyright .*\d{4}.*$/gim) ?? ["see the text"];
      const files = [...new Set(same.map(({ files }) => files))].join("\n ");
      return `Files: ${files}\nCopyright: ${holders.map((line) => line.trim()).join("\n ")}\nLicense: ${licence}\n${indented(text)}\n`;
    })
    .join("\n");
}

function npmPackage(path: string): Bundled {
  const manifest: { license?: string; author?: string | { name: string } } = JSON.parse(
    readFileSync(`${path}/package.json`, "utf8"),
  );
  const file = readdirSync(path).find((name) => /^(licen[cs]e|copying)/i.test(name));
  const { author } = manifest;
  const text =
    file === undefined
      ? `No text comes with the package. Its author: ${typeof author === "object" ? author.name : (author ?? "unnamed")}.`
      : shortened(readFileSync(`${path}/${file}`, "utf8"));
  return { files: `${path}/*`, licence: manifest.license ?? "unnamed", text };
}

/** Replaces the Apache License with a reference to the copy that Debian installs once for all packages. */
function shortened(text: string): string {
  const begin = text.search(/^ *Apache License\n *Version 2\.0/m);
  if (begin < 0 || text.length > 15_000) return text;
  const notice =
    text
      .slice(begin)
      .match(/^ *Copyright .*\d{4}.*$/m)?.[0]
      .trim() ?? "";
  return `${text.slice(0, begin)}${notice}\nOn Debian systems the text is in /usr/share/common-licenses/Apache-2.0.`;
}

function debianPackage([files, name]: readonly [string, string]): Bundled {
  return { files, licence: name, text: readFileSync(`/usr/share/doc/${name}/copyright`, "utf8") };
}

/** Formats text as the continuation lines of a Debian control field. */
function indented(text: string): string {
  return text
    .trimEnd()
    .split("\n")
    .map((line) => (line.trim() === "" ? " ." : ` ${line.trimEnd()}`))
    .join("\n");
}
