// The chart, drawn from made-up numbers.

import { expect, test } from "vitest";
import { drawChart } from "./chart.ts";
import { figures } from "./figures.ts";
import { Samples } from "./samples.ts";

test("each server has a bar proportional to its median; rows without numbers are left out", () => {
  const samples = new Samples();
  samples.add("stop", "containerd", 40);
  samples.add("stop", "keelson", 10);
  samples.add("version", "keelson", 1);
  const svg = drawChart(figures(samples), ["runc 1.4 & crun <2>"]);
  const lengths = [...svg.matchAll(/width="([\d.]+)" height="12" fill="(#\w+)"/g)].map(([, length, color]) => [
    length,
    color,
  ]);
  expect(lengths).toEqual([
    ["400.0", "#b6bcc6"],
    ["100.0", "#d9622b"],
  ]);
  expect(svg).toContain("runc 1.4 &amp; crun &lt;2>");
  expect(svg).toContain("StopContainer, obeying TERM, ms");
  expect(svg).not.toContain("Version");
});
