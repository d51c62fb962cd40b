// The results of the suites' specs, stored as JSON lines so that a run can resume where an earlier one stopped.

import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { SpecResult } from "./specs.ts";

/** One line of the file. Specs are never retried: this is the result of the only run. */
export interface KeptResult extends SpecResult {
  readonly suite: string;
  /** The seed for the order of the specs in its run. */
  readonly seed: number;
  readonly at: string;
}

export interface Results {
  readonly kept: readonly KeptResult[];
  has(suite: string, name: string): boolean;
  add(suite: string, seed: number, results: readonly SpecResult[]): Promise<void>;
}

/** Reads the results of an earlier run; starts with an empty file if `resumed` is false. */
export async function openResults(file: string, resumed: boolean): Promise<Results> {
  await mkdir(dirname(file), { recursive: true });
  if (!resumed) await writeFile(file, "");
  const text = await readFile(file, "utf8").catch(() => "");
  const kept: KeptResult[] = text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line)]));
  return {
    kept,
    has: (suite, name) => kept.some((result) => result.suite === suite && result.name === name),
    add: async (suite, seed, results) => {
      const at = new Date().toISOString();
      const added = results.map((result) => ({ suite, ...result, seed, at }));
      kept.push(...added);
      await appendFile(file, added.map((result) => `${JSON.stringify(result)}\n`).join(""));
    },
  };
}

/** A row for each suite: specs, passed without a retry, failed, cannot run here. */
export function table(
  kept: readonly KeptResult[],
  suites: readonly { readonly name: string; readonly specs: number; readonly cannot: number }[],
): string[] {
  const row = (...cells: readonly (string | number)[]) =>
    cells.map((cell, index) => (index === 0 ? String(cell).padEnd(14) : String(cell).padStart(16))).join("");
  const rows = suites.map(({ name, specs, cannot }) => {
    const of = kept.filter(({ suite }) => suite === name);
    const count = (outcome: SpecResult["outcome"]) => of.filter((result) => result.outcome === outcome).length;
    const run = count("passed") + count("failed") + count("skipped");
    return row(
      name,
      specs,
      count("passed"),
      count("failed"),
      count("skipped"),
      cannot,
      Math.max(0, specs - run - cannot),
    );
  });
  return [row("suite", "specs", "passed", "failed", "skipped themselves", "cannot run", "not run"), ...rows];
}
