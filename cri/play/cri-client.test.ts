// The client against a gRPC server: one stream of events, with nothing leaked when it ends.

import { getEventListeners } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server, ServerCredentials, type ServerWritableStream } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "vitest";
import { connectCri } from "./cri-client.ts";

let directory: string;
let server: Server;
let streams: ServerWritableStream<unknown, unknown>[];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-play-"));
  streams = [];
  server = new Server();
  const bytes = { requestSerialize: Buffer.from, requestDeserialize: () => ({}), responseDeserialize: () => ({}) };
  const method = { path: "/runtime.v1.RuntimeService/GetContainerEvents", requestStream: false, responseStream: true };
  server.addService(
    { GetContainerEvents: { ...method, ...bytes, responseSerialize: () => Buffer.alloc(0) } },
    { GetContainerEvents: (stream: ServerWritableStream<unknown, unknown>) => void streams.push(stream) },
  );
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${join(directory, "socket")}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
});
afterEach(async () => {
  server.forceShutdown();
  await rm(directory, { recursive: true });
});

test("each event of a stream is reported; an abort ends the stream, and the end removes the listener", async () => {
  const cri = connectCri(join(directory, "socket"));
  const stop = new AbortController();
  let events = 0;
  const over = cri.containerEvents(() => {
    events += 1;
  }, stop.signal);
  await expect.poll(() => streams.length).toBe(1);
  for (let event = 0; event < 3; event += 1) streams[0]?.write({});
  await expect.poll(() => events).toBe(3);
  expect(getEventListeners(stop.signal, "abort")).toHaveLength(1);
  stop.abort();
  await over;
  await expect.poll(() => streams[0]?.cancelled).toBe(true);

  const next = new AbortController();
  const ended = cri.containerEvents(() => undefined, next.signal);
  await expect.poll(() => streams.length).toBe(2);
  streams[1]?.end();
  await ended;
  expect(getEventListeners(next.signal, "abort")).toHaveLength(0);
  cri.close();
});
