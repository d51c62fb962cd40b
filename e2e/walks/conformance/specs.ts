// Reads the specs of a Kubernetes suite: their names from a dry run, their results from a run's report.

import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

export interface Spec {
  readonly name: string;
  /** Must not run in parallel with others. */
  readonly isSerial: boolean;
}

export interface SpecResult {
  readonly name: string;
  readonly outcome: "passed" | "failed" | "skipped";
  readonly seconds: number;
  /** Why it failed or was skipped; empty if it passed. */
  readonly why: string;
}

/** The fields of ginkgo's types.Report and types.SpecReport that are used here. */
interface Report {
  readonly SpecReports: readonly SpecReport[] | null;
}
interface SpecReport {
  readonly ContainerHierarchyTexts: readonly string[] | null;
  readonly LeafNodeText: string;
  readonly LeafNodeType: string;
  readonly ContainerHierarchyLabels: readonly (readonly string[])[] | null;
  readonly LeafNodeLabels: readonly string[] | null;
  readonly State: string;
  /** Nanoseconds. */
  readonly RunTime: number;
  readonly NumAttempts: number;
  readonly Failure?: { readonly Message?: string; readonly Location?: { FileName: string; LineNumber: number } };
}

/** The specs in a suite's binary whose names match `focus` but not `skip`, in the suite's order. */
export async function listSpecs(binary: string, focus: string, skip: string): Promise<Spec[]> {
  const scratch = await mkdtemp(join(tmpdir(), "keelson-specs-"));
  try {
    const report = join(scratch, "report.json");
    const words = [
      "--ginkgo.dry-run",
      `--ginkgo.focus=${focus}`,
      `--ginkgo.skip=${skip}`,
      `--ginkgo.json-report=${report}`,
    ];
    await promisify(execFile)(binary, words, { cwd: scratch, maxBuffer: 256 << 20 });
    return (await readReports(report))
      .filter(({ LeafNodeType, State }) => LeafNodeType === "It" && State === "passed")
      .map((spec) => ({ name: nameOf(spec), isSerial: labelsOf(spec).includes("Serial") }));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The results of these specs, and failures of the suite's own setup and teardown. */
export async function readResults(file: string, names: ReadonlySet<string>): Promise<SpecResult[]> {
  return (await readReports(file)).flatMap((report) => {
    const name = nameOf(report);
    const outcome = outcomeOf(report);
    if (report.LeafNodeType !== "It")
      return outcome === "failed" ? [{ ...resultOf(report), name: report.LeafNodeType }] : [];
    return names.has(name) && outcome !== undefined ? [resultOf(report)] : [];
  });
}

function resultOf(report: SpecReport): SpecResult {
  const { Message: message = "", Location: place } = report.Failure ?? {};
  const where = message === "" || place === undefined ? "" : `\n${place.FileName}:${place.LineNumber}`;
  const state = report.State === "failed" || report.State === "skipped" ? "" : `${report.State}: `;
  return {
    name: nameOf(report),
    outcome: outcomeOf(report) ?? "failed",
    seconds: Math.round(report.RunTime / 1e8) / 10,
    why: message === "" ? "" : `${state}${brief(message)}${where}`,
  };
}

/** Undefined for a spec that never started, because the run ended before it or excludes it. */
function outcomeOf({ State, NumAttempts, RunTime }: SpecReport): SpecResult["outcome"] | undefined {
  if (State === "passed") return "passed";
  if (State === "skipped" || State === "pending") return NumAttempts > 0 || RunTime > 0 ? "skipped" : undefined;
  return "failed";
}

async function readReports(file: string): Promise<readonly SpecReport[]> {
  const reports: readonly Report[] = JSON.parse(await readFile(file, "utf8"));
  return reports.flatMap(({ SpecReports }) => SpecReports ?? []);
}

/** A spec's full text, built like ginkgo does to match it against a focus. */
function nameOf({ ContainerHierarchyTexts, LeafNodeText }: SpecReport): string {
  return [...(ContainerHierarchyTexts ?? []), LeafNodeText].filter((text) => text !== "").join(" ");
}

function labelsOf({ ContainerHierarchyLabels, LeafNodeLabels }: SpecReport): string[] {
  return [...(ContainerHierarchyLabels ?? []).flat(), ...(LeafNodeLabels ?? [])];
}

/** gomega prints a sentence or two, followed by complete objects. */
function brief(message: string): string {
  const lines = message.split("\n");
  const object = lines.findIndex((line) => /^\s*(<[*\w]|[{&]|metadata:)/.test(line));
  return lines
    .slice(0, object === -1 ? 12 : Math.min(object, 12))
    .join("\n")
    .slice(0, 2000);
}
