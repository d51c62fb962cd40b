// A session that could not start, and parsing of terminal sizes. Complete sessions are tested in http-server.test.ts.

import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { ResizeReader, serveSession } from "./remote-command.ts";

test("input for a session that could not start is discarded, so that a disconnect is noticed", async () => {
  const stdin = new PassThrough();
  stdin.write(Buffer.alloc(1 << 20));
  const client = {
    stdin,
    statusAsJson: true,
    gone: Promise.withResolvers<void>().promise,
    onResize: () => undefined,
    sendOutcome: async () => undefined,
  };
  await serveSession(() => Promise.reject(new Error("no")), client, new AbortController().signal);
  await expect.poll(() => stdin.readableLength).toBe(0);
});

test("sizes are parsed from data split anywhere; garbage is ignored", () => {
  const reader = new ResizeReader();
  const text = '{"Width":80,"Height":24}{"Width":70000,"Height":1}{"no":1}{"Width":132,"Height":50}';
  const sizes = [...text].flatMap((letter) => [...reader.feed(Buffer.from(letter))]);
  expect(sizes).toEqual([
    { columns: 80, rows: 24 },
    { columns: 132, rows: 50 },
  ]);
  expect([...reader.feed(Buffer.alloc(100_000, 120))]).toEqual([]);
  expect([...reader.feed(Buffer.from('{"Width":90,"Height":30}'))], "nothing of it is kept").toEqual([
    { columns: 90, rows: 30 },
  ]);
});
