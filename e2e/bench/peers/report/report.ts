// The output of a run: the table on the terminal, and three files with the same results: Markdown, JSON and a chart.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Options } from "../options.ts";
import { drawChart } from "./chart.ts";
import { figures } from "./figures.ts";
import { method } from "./method.ts";
import type { Samples } from "./samples.ts";
import { formatTable } from "./table.ts";

export interface Run {
  /** The command line options as given. */
  readonly words: readonly string[];
  readonly options: Options;
  readonly samples: Samples;
  readonly notes: readonly string[];
  /** The busy share of all processors' time before the servers were started, by other programs. */
  readonly busyBefore: number;
  /** loadavg(3) before the first section and after each. */
  readonly load: readonly (readonly number[])[];
  readonly machine: string;
  readonly versions: readonly string[];
  /** Directory for the files. */
  readonly directory: string;
  say(line: string): void;
}

/** Above this before the start, the results are marked as noisy; building the package leaves some load. */
const quiet = { share: 0.1, load: 2 };

export async function writeReport(run: Run): Promise<void> {
  const { samples, directory, say } = run;
  const command = ["npm run bench:peers", ...(run.words.length === 0 ? [] : ["--", ...run.words])].join(" ");
  const loads = run.load.map(([lastMinute]) => lastMinute?.toFixed(1)).join(", ");
  const facts = [
    `Command: \`${command}\`, ${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC, ${run.options.rounds} rounds`,
    `Versions: ${run.versions.join("; ")}`,
    `Machine: ${run.machine}`,
    `${ambience(run)} Load (one minute's mean) at the beginning and after each section, the bench's own included: ${loads}`,
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
  const { versions, machine, busyBefore, load, notes } = run;
  const document = { command, versions, machine, busyBefore, load, notes };
  const rows = figures(samples);
  const json = { ...document, rounds: run.options.rounds, rows };
  await writeFile(join(directory, "results.json"), `${JSON.stringify(json)}\n`);
  const caution = wasQuiet(run) ? "" : " The machine was not quiet: times are longer and ratios less sure.";
  const captions = [`Medians; shorter is better.${caution}`, run.versions.join("; "), run.machine];
  await writeFile(join(directory, "chart.svg"), drawChart(rows, captions));
  say(`written to ${directory}: RESULTS.md, results.json, chart.svg`);
}

function wasQuiet({ busyBefore, load }: Run): boolean {
  return busyBefore < quiet.share && (load[0]?.[0] ?? 0) < quiet.load;
}

function ambience(run: Run): string {
  const { busyBefore, load } = run;
  const share = `before the start ${Math.round(busyBefore * 100)} % of the processors' time was used`;
  const lastMinute = load[0]?.[0] ?? 0;
  return wasQuiet(run)
    ? `The machine was quiet: ${share}.`
    : `**The machine was not quiet: ${share}, with a load of ${lastMinute.toFixed(1)}. Times are longer and ratios less sure.**`;
}
