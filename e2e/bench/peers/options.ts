// The command line of the benchmark.

import { parseArgs } from "node:util";
import { sections } from "./sections.ts";

export interface Options {
  readonly rounds: number;
  readonly pulls: number;
  readonly pods: number;
  readonly sections: readonly string[];
  /** Replaces the committed files: RESULTS.md, results.json and chart.svg in e2e/bench. */
  readonly save: boolean;
}

/** Throws an error with a message for the user. */
export function parseOptions(words: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...words],
    options: {
      rounds: { type: "string", default: "20" },
      pulls: { type: "string", default: "3" },
      pods: { type: "string", default: "100" },
      only: { type: "string", multiple: true, default: [] },
      save: { type: "boolean", default: false },
    },
  });
  const names = Object.keys(sections);
  const unknown = values.only.find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw new Error(`--only ${unknown}: there is no such section; there are ${names.join(", ")}`);
  return {
    rounds: count("rounds", values.rounds),
    pulls: count("pulls", values.pulls),
    pods: count("pods", values.pods),
    sections: names.filter((name) => values.only.length === 0 || values.only.includes(name)),
    save: values.save,
  };
}

function count(name: string, text: string): number {
  if (!/^[1-9]\d{0,4}$/.test(text)) throw new Error(`--${name} ${text}: must be a whole number from 1 to 99999`);
  return Number(text);
}
