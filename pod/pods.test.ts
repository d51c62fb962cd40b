// The end of a daemon: what it still waits for.

import { afterEach, expect, test, vi } from "vitest";
import { ownHost } from "../native/index.ts";
import { never, runPod, useNode } from "./testing/node.ts";

const node = useNode();
afterEach(() => {
  vi.restoreAllMocks();
});

test("close waits for the records that are being written, so that the next daemon finds the latest", async () => {
  const pods = await node().start();
  const id = await runPod(pods);
  const [writing, disk] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { changeFiles } = ownHost();
  vi.spyOn(ownHost(), "changeFiles").mockImplementationOnce(async (steps) => {
    writing.resolve();
    await disk.promise;
    await changeFiles(steps);
  });
  void pods.stopSandbox(id, never);
  await writing.promise;
  let isClosed = false;
  const closing = pods.close().then(() => {
    isClosed = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(isClosed).toBe(false);
  expect(await node().record(id)).toMatchObject({ life: "ready" });
  disk.resolve();
  await closing;
  // The stop may have come further meanwhile.
  expect(await node().record(id)).toMatchObject({ life: expect.stringMatching(/^stop/) });
});
