// The statistics, the table and the order of turns, with made-up numbers.

import { expect, test } from "vitest";
import { rotated, takeTurns } from "../rotation.ts";
import { figures } from "./figures.ts";
import { percentile, ratio, Samples } from "./samples.ts";
import { figure, formatTable } from "./table.ts";

const range = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

test("percentiles use the nearest rank, whatever the order of the samples", () => {
  const shuffled = [7, 1, 9, 3, 5, 10, 2, 8, 6, 4];
  expect([0.5, 0.95, 0, 1].map((share) => percentile(shuffled, share))).toEqual([5, 10, 1, 10]);
  expect(percentile([], 0.5)).toBeNaN();
  expect(figure(range(20))).toBe("10.0 / 19.0");
  expect(figure([1234.5])).toBe("1235");
});

test("a ratio needs 20 samples of both servers and a nonzero divisor", () => {
  expect(ratio(range(20), range(40))).toBe(0.5);
  expect(ratio(range(19), range(40))).toBeUndefined();
  expect(ratio(range(40), range(19))).toBeUndefined();
  expect(
    ratio(
      range(20),
      Array.from({ length: 20 }, () => 0),
    ),
  ).toBeUndefined();
});

test("every participant has every position in the order equally often", () => {
  const orders = range(3).map((round) => rotated(["a", "b", "c"], round).join(""));
  expect(orders).toEqual(["bca", "cab", "abc"]);
  expect(rotated([], 5)).toEqual([]);
});

test("turns run one at a time, after a warm-up round", async () => {
  const turns: string[] = [];
  await takeTurns(["a", "b"], 2, async (participant, round, counts) => {
    turns.push(`${participant}${round}`);
    await Promise.resolve();
    turns.push(counts ? "counts" : "warms up");
  });
  expect(turns.filter((_, index) => index % 2 === 0)).toEqual(["a0", "b0", "b1", "a1", "a2", "b2"]);
  expect(turns.filter((word) => word === "warms up")).toHaveLength(2);
});

test("the table has the rows with numbers, their floors, and ratios where there are enough samples", () => {
  const samples = new Samples();
  for (const value of range(20)) {
    samples.add("run", "containerd", value * 4);
    samples.add("run", "keelson", value);
    samples.add("cni-add", "floor", value / 2);
  }
  samples.add("pull", "cri-o", 11.5);
  const lines = formatTable(samples).split("\n");
  const row = (title: string) =>
    lines
      .find((line) => line.includes(title))
      ?.split("|")
      .map((cell) => cell.trim());
  expect(lines).toHaveLength(4);
  expect(new Set(lines.map((line) => line.length)).size).toBe(1);
  expect(row("RunPodSandbox")).toEqual([
    "",
    "RunPodSandbox, ms",
    "40.0 / 76.0",
    "",
    "10.0 / 19.0",
    "0.25",
    "",
    "CNI ADD 5.00 / 9.50",
    "20",
    "",
  ]);
  expect(row("pull")?.slice(2, 6)).toEqual(["", "11.5", "", ""]);
  expect(figures(samples).map(({ title, ratios }) => [title, ratios])).toEqual([
    ["RunPodSandbox", { containerd: 0.25 }],
    ["pull of a large image", {}],
  ]);
});

test("Keelson with its own plugins has separate rows, next to the same numbers of the peers", () => {
  const samples = new Samples();
  samples.add("pod-start", "containerd", 180);
  expect(formatTable(samples)).not.toContain("own plugins");
  samples.add("pod-start", "keelson-own", 20);
  samples.add("pod-start", "cri-o-own", 90);
  const cells = (words: string) =>
    formatTable(samples)
      .split("\n")
      .find((text) => text.includes(words))
      ?.split("|")
      .map((cell) => cell.trim())
      .slice(2, 5);
  expect(cells("Keelson's own plugins")).toEqual(["180", "", "20.0"]);
  expect(cells("CRI-O on Keelson's plugins too")).toEqual(["", "90.0", "20.0"]);
});
