// The log when it is not read.

import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { jsonLog } from "./log.ts";

test("unread lines are dropped past a limit, and the next line read reports how many", () => {
  const waiting: (() => void)[] = [];
  const lines: { message: string; n?: number; lines?: number }[] = [];
  const stalled = new Writable({
    decodeStrings: false,
    write(line: string, _, read) {
      lines.push(JSON.parse(line));
      waiting.push(read);
    },
  });
  const log = jsonLog("info", stalled, () => new Date());
  const total = 10_000;
  for (let n = 0; n < total; n += 1) log("info", "call", { n, text: "x".repeat(1000) });
  expect(stalled.writableLength).toBeLessThan(5 << 20);

  for (let read = waiting.shift(); read !== undefined; read = waiting.shift()) read();
  log("info", "again");
  while (waiting.length > 0) waiting.shift()?.();
  const kept = lines.filter(({ message }) => message === "call").length;
  expect(lines.slice(kept)).toMatchObject([{ level: "warn", lines: total - kept }, { message: "again" }]);
});
