// Port-forward with crictl: single connections, and bulk transfers next to a connection that is never read.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { Steps } from "../../fixtures/steps.ts";
import { type Crictl, killAndWait, measure, type Transport, waitForOutput } from "./crictl.ts";

/** In the pod: a web page on port 8080, and the file /tmp/big for every connection to port 9000. */
export const servers =
  "echo page > /tmp/index.html; httpd -p 8080 -h /tmp; nc -ll -p 9000 -e cat /tmp/big & while true; do echo tick; sleep 0.2; done";

export interface Big {
  readonly size: number;
  readonly sha256: string;
}

export async function forward(
  { step }: Steps,
  crictl: Crictl,
  transport: Transport,
  sandbox: string,
  big: Big,
): Promise<void> {
  const child = crictl.start(["port-forward", "--transport", transport, sandbox, "0:8080", "0:9000", "0:9999"]);
  try {
    // "Forwarding from 127.0.0.1:40123 -> 8080", and the same for ::1.
    const printed = await waitForOutput(child, /:(\d+) -> 8080.*:(\d+) -> 9000.*:(\d+) -> 9999/s);
    const [port = 0, bulk = 0, closed = 0] = printed.slice(1).map(Number);
    await step(`${transport}: a port is forwarded into the pod, connection by connection`, async () => {
      for (let round = 0; round < 5; round += 1) assert.match(await page(port), /200 OK.*page\n$/s);
    });
    await step(`${transport}: an idle connection does not stall others`, async () => {
      const idle = await open(port);
      const both = await Promise.all([page(port), page(port)]);
      for (const answer of both) assert.match(answer, /page\n$/);
      idle.destroy();
    });
    const gibibytes = ((2 * big.size) / (1 << 30)).toFixed(2);
    await step(`${transport}: two connections carry ${gibibytes} GiB next to a third that is never read`, async () => {
      const unread = await open(bulk);
      const began = performance.now();
      const both = await Promise.all([download(bulk), download(bulk)]);
      const seconds = (performance.now() - began) / 1000;
      process.stdout.write(`      ${Math.round((2 * big.size) / seconds / 1e6)} MB/s\n`);
      for (const { size, sha256 } of both) assert.deepEqual({ size, sha256 }, big);
      unread.destroy();
    });
    await step(
      `${transport}: when the unread connection is closed, ten more connections are served, in every queue`,
      async () => {
        for (let round = 0; round < 10; round += 1) assert.match(await page(port), /page\n$/);
      },
    );
    // client-go closes all of its connections when one is refused, so this comes last.
    await step(`${transport}: a connection to a port without a listener is closed without data`, async () => {
      assert.equal(await page(closed).catch(() => ""), "");
    });
  } finally {
    await killAndWait(child);
  }
}

/** Opens a connection without reading it: data stays in the kernel's buffers. */
async function open(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  return socket.pause();
}

async function download(port: number): Promise<Big> {
  const socket = connect(port, "127.0.0.1");
  socket.setTimeout(30_000, () => socket.destroy(new Error("no data for 30 s")));
  const { size, sha256 } = await measure(socket);
  return { size, sha256 };
}

async function page(port: number): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.setTimeout(10_000, () => socket.destroy(new Error("no answer within 10 s")));
  socket.end("GET / HTTP/1.0\r\n\r\n");
  return (await measure(socket)).stdout.toString();
}
