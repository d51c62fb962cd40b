// The chart of the README: for selected rows, a bar for each server, proportional to its median.

import type { RowFigures } from "./figures.ts";
import { formatNumber } from "./table.ts";

const subjects = [
  { key: "containerd", name: "containerd + runc", color: "#b6bcc6" },
  { key: "cri-o", name: "CRI-O + crun", color: "#8793a5" },
  { key: "keelson", name: "Keelson", color: "#d9622b" },
] as const;

/** Title and unit of each row in the chart. */
const shown = [
  ["pod start in all", "ms"],
  ["pod start in all", "CPU ms"],
  ["pod start, Keelson's own plugins", "ms"],
  ["pod start, Keelson's own plugins", "CPU ms"],
  ["10 pods at once", "ms"],
  ["ExecSync true, pods coming and going", "ms"],
  ["ExecSync true, pods coming and going", "CPU ms"],
  ["StopContainer, obeying TERM", "ms"],
  ["pod removal in all", "ms"],
  ["ListContainerStats", "ms"],
  ["pull of a large image", "s"],
  ["kill -9 to all listed, all pods", "ms"],
] as const;

const [width, labelWidth, barWidth, barHeight, margin, captionHeight] = [820, 310, 400, 13, 16, 15];
const groupHeight = subjects.length * barHeight + 12;

/** Returns SVG; rows without data are omitted. */
export function drawChart(rows: readonly RowFigures[], captions: readonly string[]): string {
  const groups = shown.flatMap(([title, unit]) => rows.filter((row) => row.title === title && row.unit === unit));
  const top = 48 + captions.length * captionHeight;
  const height = top + groups.length * groupHeight + margin;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    "<title>Keelson beside containerd and CRI-O</title>",
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    ...captions.map((caption, index) => text(margin, 22 + index * captionHeight, caption, `font-size="11"`)),
    ...legend(top - 25),
    ...groups.flatMap((row, index) => group(row, top + index * groupHeight)),
    "</svg>",
    "",
  ].join("\n");
}

function legend(top: number): string[] {
  return subjects.flatMap(({ name, color }, index) => {
    const left = labelWidth + index * 150;
    return [rectangle(left, top, 10, color, 10), text(left + 15, top + 9, name)];
  });
}

function group(row: RowFigures, top: number): string[] {
  const longest = Math.max(...Object.values(row.subjects).map(({ p50 }) => p50));
  const middle = top + (subjects.length * barHeight) / 2 + 4;
  const bars = subjects.flatMap(({ key, color }, index) => {
    const figures = row.subjects[key] ?? (key === "keelson" ? row.subjects["keelson-own"] : undefined);
    if (figures === undefined) return [];
    const [y, length] = [top + index * barHeight, Math.max(1, (figures.p50 / longest) * barWidth)];
    return [
      rectangle(labelWidth, y, length, color),
      text(labelWidth + length + 5, y + 10, formatNumber(figures.p50), `font-size="11"`),
    ];
  });
  return [text(labelWidth - 10, middle, `${row.title}, ${row.unit}`, `text-anchor="end"`), ...bars];
}

function rectangle(x: number, y: number, length: number, color: string, height = barHeight - 1): string {
  return `<rect x="${x}" y="${y}" width="${length.toFixed(1)}" height="${height}" fill="${color}"/>`;
}

function text(x: number, y: number, words: string, attributes = ""): string {
  const escaped = words.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text x="${x.toFixed(1)}" y="${y}" fill="#24292f" ${attributes}>${escaped}</text>`;
}
