// An address on which metrics cannot be served, and a scraper that does not read.

import { connect } from "node:net";
import { expect, test } from "vitest";
import { serveMetrics } from "./http-server.ts";

test("an address in use is reported as written in the configuration", async () => {
  const registry = { contentType: "text/plain", text: async () => "" };
  const first = await serveMetrics({ host: "::1", port: 0 }, registry, () => undefined);
  try {
    await expect(serveMetrics({ host: "::1", port: first.port }, registry, () => undefined)).rejects.toMatchObject({
      code: "FailedPrecondition",
      message: expect.stringContaining(`Metrics cannot be served at [::1]:${first.port}: `),
    });
  } finally {
    first.close();
  }
});

test("a client that does not read the response is disconnected", { timeout: 60_000 }, async () => {
  // More than the kernel buffers for a reader. Node checks for progress twice, ten seconds apart.
  const registry = { contentType: "text/plain", text: async () => "x".repeat(64 << 20) };
  const server = await serveMetrics({ host: "127.0.0.1", port: 0 }, registry, () => undefined);
  const reader = connect(server.port, "127.0.0.1").pause();
  try {
    const gone = new Promise<string>((resolve) => reader.on("error", ({ message }) => resolve(message)));
    reader.write("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    await new Promise((resolve) => setTimeout(resolve, 25_000));
    // A stalled client notices the disconnect on its second write.
    for (const word of ["GET", " /"]) {
      reader.write(word);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(await gone).toMatch(/ECONNRESET|EPIPE/);
  } finally {
    reader.destroy();
    server.close();
  }
});
