// What the streaming server answers to HTTP, and SPDY sessions of each protocol byte by byte.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dataFrame, type Frame, FrameParser, flagFin } from "./spdy/frames.ts";
import { SpdyClientBytes, spdyRequest, upgradeRequest, webSocketRequest } from "./testing/client-bytes.ts";
import { type EchoServer, endOfInput, startEchoServer } from "./testing/echo-server.ts";
import { exchange } from "./testing/exchange.ts";

let server: EchoServer;
beforeAll(async () => {
  server = await startEchoServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const v4 = "v4.channel.k8s.io";

describe("requests", () => {
  const token = "A".repeat(32);
  const cases: readonly [string, () => Buffer, string][] = [
    ["an unknown token", () => spdyRequest(`/exec/${token}`, v4), "404"],
    ["a token of another kind", () => spdyRequest(server.exec().replace("exec", "attach"), v4), "404"],
    ["no protocol", () => upgradeRequest(server.exec(), "SPDY/3.1", []), "400"],
    ["no common protocol", () => spdyRequest(server.exec(), "v9.channel.k8s.io"), "403"],
    ["no common WebSocket protocol", () => webSocketRequest(server.exec(), "v9.channel.k8s.io"), "403"],
    ["another upgrade", () => upgradeRequest(server.exec(), "h2c", []), "400"],
    ["no upgrade", () => Buffer.from(`GET ${server.exec()} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`), "400"],
    [
      "another host's name",
      () => Buffer.from(spdyRequest(server.exec(), v4).toString().replace("127.0.0.1", "evil.example")),
      "403",
    ],
    [
      "a page of another origin",
      () => upgradeRequest(server.exec(), "websocket", ["Origin: http://evil.example"]),
      "403",
    ],
    ["headers without end", () => Buffer.from(`GET / HTTP/1.1\r\nX: ${"x".repeat(40_000)}\r\n\r\n`), "431"],
  ];
  test.each(cases)("%s is refused", async (_, request, code) => {
    const { head } = await exchange(server.port, request());
    expect(head).toMatch(new RegExp(`^HTTP/1.1 ${code} `));
  });

  test("a token works once", async () => {
    const path = server.exec();
    expect((await exchange(server.port, spdyRequest(path, v4))).head).toMatch(/^HTTP\/1.1 101 /);
    expect((await exchange(server.port, spdyRequest(path, v4))).head).toMatch(/^HTTP\/1.1 404 /);
  });

  test("what the server speaks is told to a client that speaks none of it", async () => {
    const { head } = await exchange(server.port, spdyRequest(server.exec(), "v9.channel.k8s.io"));
    const spoken = [...head.matchAll(/^X-Accepted-Stream-Protocol-Versions: (.*)\r$/gm)].map(([, name]) => name);
    expect(spoken).toEqual([v4, "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"]);
  });
});

describe("SPDY", () => {
  const ids = { error: 1, stdin: 3, stdout: 5, stderr: 7 };

  async function session(protocol: string, input: Buffer, fin: boolean): Promise<Map<number, string>> {
    const client = new SpdyClientBytes();
    const opened: Buffer[] = [];
    for (const [streamtype, id] of Object.entries(ids))
      opened.push(await client.synStream(id, { streamtype }, streamtype === "error" ? flagFin : 0));
    client.close();
    const bytes = [Buffer.concat(opened), Buffer.concat([dataFrame(ids.stdin, input.length, fin), input])];
    const { head, body } = await exchange(server.port, spdyRequest(server.exec(), protocol), bytes);
    expect(head).toContain(`\r\nX-Stream-Protocol-Version: ${protocol}\r\n`);
    const frames: Frame[] = [...new FrameParser().feed(body)];
    expect(
      frames.filter(({ kind }) => kind === "headers"),
      "a SYN_REPLY each",
    ).toHaveLength(4);
    expect(frames.at(-1), "good-bye at the end").toEqual({ kind: "go-away" });
    const carried = new Map<number, string>();
    for (const frame of frames)
      if (frame.kind === "data")
        carried.set(frame.streamId, (carried.get(frame.streamId) ?? "") + frame.bytes.toString());
    return carried;
  }

  test.each(["v4", "v3", "v2"])("%s: stdin half-closes, both outputs come whole", async (version) => {
    const carried = await session(`${version}.channel.k8s.io`, Buffer.from("hi"), true);
    expect([carried.get(ids.stdout), carried.get(ids.stderr)]).toEqual(["hi", "end"]);
    if (version === "v4") expect(JSON.parse(carried.get(ids.error) ?? "")).toMatchObject({ status: "Success" });
    else expect(carried.get(ids.error), "success is silence").toBe("");
  });

  test.each(["v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"])(
    "%s: a failure is plain text",
    async (name) => {
      const carried = await session(name, Buffer.from([104, 105, endOfInput]), false);
      expect(carried.get(ids.stdout)).toBe("hi");
      expect(carried.get(ids.error)).toBe("command terminated with non-zero exit code: exit status 7");
    },
  );

  test("v4: the exit code is in the status", async () => {
    const carried = await session(v4, Buffer.from([endOfInput]), false);
    expect(JSON.parse(carried.get(ids.error) ?? "")).toMatchObject({
      reason: "NonZeroExitCode",
      details: { causes: [{ reason: "ExitCode", message: "7" }] },
    });
  });
});
