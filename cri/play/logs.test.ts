// Logs in the CRI format, printed with a prefix: while they are written, across a rotation, and in any amount.

import { appendFile, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { followLog, LogLines } from "./logs.ts";

let directory: string;
let path: string;
let printed: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-logs-"));
  path = join(directory, "0.log");
  printed = "";
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

const entry = (text: string, tags = "F", stream = "stdout") =>
  `2026-11-28T13:00:00.000000000Z ${stream} ${tags} ${text}\n`;
const print = async (bytes: Buffer) => {
  printed += bytes.toString();
};

async function until(wanted: string): Promise<void> {
  for (const end = Date.now() + 5000; !printed.includes(wanted); await delay(5))
    if (Date.now() > end) throw new Error(`${wanted} is not in ${printed}`);
}

test("lines are joined from pieces of any size, and from parts by stream", () => {
  const log = entry("one") + entry("tw", "P") + entry("error", "F", "stderr") + entry("o") + entry("") + entry("ü");
  for (let size = 1; size < 40; size++) {
    const lines = new LogLines("a | ");
    let output = "";
    for (let at = 0; at < log.length + 1; at += size)
      output += lines.take(Buffer.from(log).subarray(at, at + size)).toString();
    expect(output).toBe("a | one\na | error\na | two\na | \na | ü\n");
  }
});

test("text that is not a CRI log is printed verbatim, and an endless line in pieces", () => {
  const lines = new LogLines("> ");
  expect(lines.take(Buffer.from("garbage\n")).toString()).toBe("> garbage\n");
  const flood = Buffer.from(entry("x".repeat(1000), "P").repeat(1000));
  const output = lines.take(flood);
  expect(output.length).toBeGreaterThan(900_000);
  expect(
    output
      .toString()
      .split("\n")
      .every((line) => line.length < 70_000),
  ).toBe(true);
});

test("follows a log that is created later, across a rotation, to its end", async () => {
  const ended = Promise.withResolvers<void>();
  const following = followLog(path, "a | ", ended.promise, print);
  await delay(20);
  await writeFile(path, entry("one"));
  await until("one");
  await rename(path, `${path}.1`);
  await appendFile(`${path}.1`, entry("two"));
  await writeFile(path, entry("three"));
  await until("three");
  await appendFile(path, entry("last"));
  ended.resolve();
  await following;
  expect(printed).toBe("a | one\na | two\na | three\na | last\n");
});

test("following ends for a container that never logged", async () => {
  await followLog(path, "", Promise.resolve(), print);
  await followLog(path, "", Promise.reject(new Error("the view closed")), print);
  expect(printed).toBe("");
});

test("waits for a slow reader", async () => {
  await writeFile(path, entry("x".repeat(1000)).repeat(1000));
  let writing = 0;
  let most = 0;
  let bytes = 0;
  await followLog(path, "", Promise.resolve(), async (chunk) => {
    most = Math.max(most, ++writing);
    bytes += chunk.length;
    await delay(1);
    writing -= 1;
  });
  expect({ most, bytes }).toEqual({ most: 1, bytes: 1_001_000 });
});
