// Reads the lists in this directory: specs that cannot run on these machines, and those that .ci/run runs.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** Names of the specs for which CANNOT.md gives a reason: its second-level headings. */
export async function readCannot(): Promise<ReadonlySet<string>> {
  const text = await readFile(join(import.meta.dirname, "CANNOT.md"), "utf8");
  return new Set(text.split("\n").flatMap((line) => (line.startsWith("## ") ? [line.slice(3).trim()] : [])));
}

/** Lines of chosen.txt, `suite: name of the spec`. */
export async function readChosen(): Promise<ReadonlySet<string>> {
  const text = await readFile(join(import.meta.dirname, "chosen.txt"), "utf8");
  return new Set(text.split("\n").filter((line) => line !== "" && !line.startsWith("#")));
}
