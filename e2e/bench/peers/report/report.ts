// What a run leaves: the table on the terminal, and three files of the same figures: Markdown, JSON and a chart.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Options } from "../options.ts";
import { figures } from "./figures.ts";
import { method } from "./method.ts";
import type { Samples } from "./samples.ts";
import { formatTable } from "./table.ts";

export interface Run {
  /** The options as they were typed. */
  readonly words: readonly string[];
  readonly options: Options;
  readonly samples: Samples;
  readonly notes: readonly string[];
  /** loadavg(3) before the first section and after each. */
  readonly load: readonly (readonly number[])[];
  readonly machine: string;
  readonly versions: readonly string[];
  /** Where the files go. */
  readonly directory: string;
  say(line: string): void;
}

export async function writeReport(run: Run): Promise<void> {
  const { samples, directory, say } = run;
  const command = ["npm run bench:peers", ...(run.words.length === 0 ? [] : ["--", ...run.words])].join(" ");
  const loads = run.load.map(([lastMinute]) => lastMinute?.toFixed(1)).join(", ");
  const facts = [
    `Command: \`${command}\`, ${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC, ${run.options.rounds} rounds`,
    `Versions: ${run.versions.join("; ")}`,
    `Machine: ${run.machine}`,
    `Load (one minute's mean) before and after each section, the bench's own included: ${loads}`,
    ...run.notes,
  ];
  const table = formatTable(samples);
  say("");
  say(table);
  say("");
  for (const fact of facts) say(fact);
  await mkdir(directory, { recursive: true });
  const list = facts.map((fact) => `- ${fact}`).join("\n");
  await writeFile(join(directory, "RESULTS.md"), `# Keelson beside its peers\n\n${list}\n\n${table}\n\n${method}`);
  const document = { command, versions: run.versions, machine: run.machine, load: run.load, notes: run.notes };
  const json = { ...document, rounds: run.options.rounds, rows: figures(samples) };
  await writeFile(join(directory, "results.json"), `${JSON.stringify(json, null, 1)}\n`);
  say(`written to ${directory}: RESULTS.md, results.json`);
}
