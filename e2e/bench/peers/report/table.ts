// The table of all rows that have data: p50 / p95 of each server, the ratios, and the floors.

import { columnsOf, hasFigures, type Row, rows } from "./rows.ts";
import { percentile, ratio, type Samples, type ServerName } from "./samples.ts";

/** Markdown, aligned for reading on a terminal as well. */
export function formatTable(samples: Samples): string {
  const heading = ["", "containerd", "CRI-O", "Keelson", "to containerd", "to CRI-O", "floor", "samples"];
  const body = rows.filter((row) => hasFigures(row, samples)).map((row) => cells(row, samples));
  const widths = heading.map((title, column) =>
    Math.max(title.length, ...body.map((row) => row[column]?.length ?? 0), 3),
  );
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => pad(cell, widths[column] ?? 0, column === 0)).join(" | ")} |`;
  const rule = `|${widths.map((width, column) => (column === 0 ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`)).join("|")}|`;
  return [line(heading), rule, ...body.map(line)].join("\n");
}

function cells(row: Row, samples: Samples): string[] {
  const { key } = row;
  const columns = columnsOf(row);
  const of = (server: ServerName | undefined) => (server === undefined ? [] : samples.of(key, server));
  const [containerd, crio, keelson] = [of(columns.containerd), of(columns["cri-o"]), of(columns.keelson)];
  const floors = (row.floors ?? []).flatMap((floor) => {
    const values = samples.of(floor.key, "floor");
    return values.length === 0 ? [] : [`${floor.name} ${figure(values)}`];
  });
  const counts = [...new Set([containerd, crio, keelson].map(({ length }) => length).filter((count) => count > 0))];
  return [
    `${row.title}, ${row.unit}`,
    figure(containerd),
    figure(crio),
    figure(keelson),
    formatRatio(ratio(keelson, containerd)),
    formatRatio(ratio(keelson, crio)),
    floors.join("; "),
    counts.join(", "),
  ];
}

/** "p50 / p95", or the one value. */
export function figure(values: readonly number[]): string {
  if (values.length === 0) return "";
  const middle = formatNumber(percentile(values, 0.5));
  return values.length === 1 ? middle : `${middle} / ${formatNumber(percentile(values, 0.95))}`;
}

/** Three significant digits. */
export function formatNumber(value: number): string {
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function formatRatio(value: number | undefined): string {
  return value === undefined ? "" : value.toFixed(2);
}

function pad(cell: string, width: number, left: boolean): string {
  return left ? cell.padEnd(width) : cell.padStart(width);
}
