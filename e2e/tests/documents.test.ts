// Files that documents and the first lines of sources refer to must exist.

import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");
const files = ["cri", "pod", "image", "cni", "native", "e2e"].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map((file) => join(folder, file)),
);
/** Each file by its full path and all suffixes of it, as documents refer to it: "setup/command.cc", "command.cc". */
const known = new Set(files.flatMap((file) => file.split("/").map((_, at, parts) => parts.slice(at).join("/"))));
const sources = files.filter((file) => /\.(ts|cc|h)$/.test(file) && !/(^native\/build|\/generated)\//.test(file));

/** The comment at the start of a file. */
function opening(file: string): string {
  return /^(\/\/.*\n)*/.exec(readFileSync(join(root, file), "utf8"))?.[0] ?? "";
}

/** Names of sources in a text, with or without a path. Not headers, which may be the kernel's. */
function namedFiles(text: string): string[] {
  return [...text.matchAll(/(?<![\w*{}.])[\w./-]*[\w-]+\.(?:ts|cc)(?!\w)/g)].map(([name]) => name);
}

const missing = (names: readonly string[], from: string) =>
  names.filter((name) => {
    const path = join(dirname(from), name);
    return !known.has(name) && !known.has(path) && !known.has(name.replace(/^(\.\.?\/)+/, ""));
  });

test("every file that a source's first lines name exists", () => {
  const wrong = sources.flatMap((file) => missing(namedFiles(opening(file)), file).map((name) => `${file}: ${name}`));
  expect(sources.length).toBeGreaterThan(400);
  expect(wrong).toEqual([]);
});

test.each(["README.md", "CONTRIBUTING.md", "native/PROTOCOL.md"])("every file that %s names exists", (document) => {
  const text = readFileSync(join(root, document), "utf8");
  expect(missing(namedFiles(text), document)).toEqual([]);
});
