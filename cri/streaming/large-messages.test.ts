// Messages that contain entire archives, as sent by the Python client: accepted, but only a few at a time.

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { maxMessageBytes, places } from "./large-messages.ts";
import { Opcode, webSocketFrame, webSocketRequest } from "./testing/client-bytes.ts";
import { type EchoServer, startEchoServer } from "./testing/echo-server.ts";

const protocol = "v4.channel.k8s.io";
/** A message of this size on the stdin channel. */
const message = (bytes: number) => webSocketFrame(Opcode.binary, Buffer.alloc(bytes));
const close = webSocketFrame(Opcode.close, Buffer.from([0x03, 0xe8]));

/** A client of an exec that reads everything it is sent. */
async function client(server: EchoServer, stdout = false): Promise<Socket> {
  const socket = connect(server.port, "127.0.0.1").on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  socket.write(webSocketRequest(server.exec({ stdout }), protocol));
  await once(socket, "data");
  return socket.resume();
}

const ended = (server: EchoServer) => server.ends.map(({ bytes, exitCode }) => [bytes, exitCode]);

test("a message of Ansible's size and the largest allowed one are accepted", async () => {
  await using server = await startEchoServer();
  for (const size of [(1 << 20) + 1, maxMessageBytes]) {
    const socket = await client(server);
    socket.write(message(size));
    socket.write(close);
    await expect.poll(() => ended(server).at(-1), { timeout: 10_000 }).toEqual([size - 1, 0]);
  }
});

test("a message beyond the limit waits until another is complete, or its client has disconnected", async () => {
  await using server = await startEchoServer();
  const size = 3 << 20;
  const first: Socket[] = [];
  for (let n = 0; n < places; n += 1) first.push(await client(server));
  for (const socket of first) socket.write(message(size).subarray(0, -1));
  await delay(200);
  const late = [await client(server), await client(server)];
  for (const socket of late) {
    socket.write(message(size));
    socket.write(close);
  }
  const small = await client(server);
  small.write(message(1000));
  small.write(close);
  await expect.poll(() => ended(server)).toEqual([[999, 0]]);
  await delay(200);
  expect(ended(server)).toEqual([[999, 0]]);
  first[0]?.write(message(size).subarray(-1));
  await expect
    .poll(() => ended(server))
    .toEqual([
      [999, 0],
      [size - 1, 0],
      [size - 1, 0],
    ]);
  for (const socket of first) socket.destroy();
  await expect.poll(() => server.open.size).toBe(0);
});

test("a message that its process does not read counts like an incomplete one", async () => {
  await using server = await startEchoServer();
  const first: Socket[] = [];
  for (let n = 0; n < places; n += 1) first.push(await client(server, true));
  // The process writes what it reads, but its client does not read the output.
  for (const socket of first) socket.pause().write(message(16 << 20));
  await delay(500);
  const late = await client(server);
  late.write(message(3 << 20));
  late.write(close);
  await delay(500);
  expect(server.ends).toEqual([]);
  for (const socket of first.slice(1)) socket.destroy();
  await expect.poll(() => ended(server)).toContainEqual([(3 << 20) - 1, 0]);
});
