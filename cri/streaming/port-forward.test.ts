// Connections into the pod: what happens when a client's streams close, and how many there may be.

import { duplexPair, PassThrough } from "node:stream";
import { expect, onTestFinished, test } from "vitest";
import { maxForwarded } from "./port-forward.ts";
import { serveSpdyPortForward } from "./serve-spdy.ts";
import { ControlType, controlFrame, numbers } from "./spdy/frames.ts";
import { SpdyClientBytes } from "./testing/client-bytes.ts";

const cancel = 5;

test.each(["before", "after"])(
  "a stream that is reset %s its connection is established closes the connection",
  async (when) => {
    const [wire, client] = duplexPair();
    client.resume().on("error", () => undefined);
    const asked = Promise.withResolvers<void>();
    const made = Promise.withResolvers<PassThrough>();
    const served = serveSpdyPortForward(wire, Buffer.alloc(0), () => {
      asked.resolve();
      return made.promise;
    });
    onTestFinished(async () => {
      client.destroy();
      wire.destroy();
      await served;
    });
    const bytes = new SpdyClientBytes();
    const pair = { port: "8080", requestid: "0" };
    client.write(await bytes.synStream(1, { streamtype: "error", ...pair }, 1));
    client.write(await bytes.synStream(3, { streamtype: "data", ...pair }));
    bytes.close();
    await asked.promise;
    const connection = new PassThrough();
    const reset = () => client.write(controlFrame(ControlType.rstStream, 0, numbers(3, cancel)));
    if (when === "before") {
      reset();
      await new Promise((resolve) => setTimeout(resolve, 20));
      made.resolve(connection);
    } else {
      made.resolve(connection);
      await new Promise((resolve) => setTimeout(resolve, 20));
      reset();
    }
    await expect.poll(() => connection.destroyed).toBe(true);
  },
);

test("connections beyond the limit wait for others to end, or until their client leaves", async () => {
  const [wire, client] = duplexPair();
  client.resume().on("error", () => undefined);
  const made: PassThrough[] = [];
  const served = serveSpdyPortForward(wire, Buffer.alloc(0), async () => {
    const connection = new PassThrough();
    made.push(connection);
    return connection;
  });
  const bytes = new SpdyClientBytes();
  const wanted = maxForwarded + 3;
  for (let n = 0; n < wanted; n += 1) {
    const pair = { port: "8080", requestid: String(n) };
    client.write(await bytes.synStream(4 * n + 1, { streamtype: "error", ...pair }, 1));
    client.write(await bytes.synStream(4 * n + 3, { streamtype: "data", ...pair }));
  }
  bytes.close();
  await expect.poll(() => made.length).toBe(maxForwarded);
  client.write(controlFrame(ControlType.rstStream, 0, numbers(4 * maxForwarded + 3, cancel)));
  await new Promise((resolve) => setTimeout(resolve, 50));
  made[0]?.destroy();
  await expect.poll(() => made.length).toBe(maxForwarded + 1);
  client.write(controlFrame(ControlType.rstStream, 0, numbers(7, cancel)));
  await expect.poll(() => made.length).toBe(wanted - 1);
  wire.destroy();
  await served;
  await expect.poll(() => made.filter(({ destroyed }) => !destroyed)).toEqual([]);
});

test("failed connections do not use up the limit: after more failures than the limit the next port is tried", async () => {
  const [wire, client] = duplexPair();
  client.resume().on("error", () => undefined);
  let asked = 0;
  const served = serveSpdyPortForward(wire, Buffer.alloc(0), async () => {
    asked += 1;
    throw new Error("connection refused");
  });
  const bytes = new SpdyClientBytes();
  for (let n = 0; n <= maxForwarded; n += 1) {
    const pair = { port: "1", requestid: String(n) };
    client.write(await bytes.synStream(4 * n + 1, { streamtype: "error", ...pair }, 1));
    client.write(await bytes.synStream(4 * n + 3, { streamtype: "data", ...pair }));
  }
  bytes.close();
  await expect.poll(() => asked).toBe(maxForwarded + 1);
  wire.destroy();
  await served;
});
