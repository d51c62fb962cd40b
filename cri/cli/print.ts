// Output of commands: columns as text, or JSON.

import { plainLine } from "../plain-text.ts";

export type Output = "text" | "json";

/** Formats rows of equal length as columns, two spaces apart, without trailing spaces. */
export function columns(cells: readonly (readonly string[])[]): string {
  const rows = cells.map((row) => row.map(plainLine));
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, at) => cell.padEnd(widths[at] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

export function json(value: unknown): string {
  return `${JSON.stringify(value, (_key, part) => (typeof part === "bigint" ? Number(part) : part), 2)}\n`;
}

/** 1.5 GB, 12 MB, 340 kB: powers of 1000, as registries and disk vendors count. */
export function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value < 10 && power > 0 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}

/** 3 d 4 h, 2 h 5 min, 12 min, 45 s, 0.3 s: at most two units. */
export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [Math.floor(seconds) % 60, "s"],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  const shown = parts.slice(first, first + (first < 2 ? 2 : 1)).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(" ");
}
