// One call with every fault of the other side: no answer, an invalid answer, hanging up, not listening.
// The calls themselves are tested with a real monitor (monitor-client.test.ts).

import { spawnSync } from "node:child_process";
import { getEventListeners } from "node:events";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connectMonitor, type ExecRequest, MonitorError } from "../index.ts";
import { exited, exitedContainer, frame, TestPeer } from "../testing/peer.ts";
import { openDescriptors } from "../testing/pods.ts";
import type { FailureKind } from "./failure.ts";
import { decodeJson, encodeJson, FrameType, frameHeader } from "./frames.ts";

let peer: TestPeer;
beforeEach(() => {
  peer = new TestPeer();
});
afterEach(() => {
  peer.remove();
});

const soon = { timeoutMs: 2_000 };
const command: ExecRequest = { id: "c", args: ["true"], tty: false, stdin: true, timeoutMs: 0 };
const monitor = () => connectMonitor(peer.directory);

describe("an answer", () => {
  it("is read however its bytes are split", async () => {
    await peer.behave(async (socket) => {
      for (const byte of encodeJson(FrameType.reply, { containers: [exitedContainer] })) {
        socket.write(Buffer.from([byte]));
        await delay(0);
      }
    });
    expect(await monitor().state(soon)).toEqual([
      {
        state: "exited",
        id: "c",
        pid: 1,
        startedAt: 1_700_000_000_000_000_001n,
        finishedAt: 18_446_744_073_709_551_615n,
        exitCode: 137,
        signal: 9,
        oomKilled: true,
        tty: false,
      },
    ]);
  });

  const lies: [string, Buffer][] = [
    ["another version", Buffer.from([0x81, 9, 0, 0, 2, 0, 0, 0, 0x7b, 0x7d])],
    ["a frame that only the daemon sends", encodeJson(FrameType.request, { op: "hello" })],
    ["a frame above the limit", frameHeader(FrameType.reply, 0x7fff_ffff)],
    ["invalid JSON", frame(FrameType.reply, Buffer.from("{x}"))],
    ["output in a call without any", frame(FrameType.stdout, Buffer.from("x"))],
    ["a missing field", encodeJson(FrameType.reply, { containers: [{ ...exitedContainer, pid: undefined }] })],
    ["a time that is a number", encodeJson(FrameType.reply, { containers: [{ ...exitedContainer, started_at: 17 }] })],
    ["an unknown state", encodeJson(FrameType.reply, { containers: [{ ...exitedContainer, state: "asleep" }] })],
    ["a list that is not a list", encodeJson(FrameType.reply, { containers: { length: 1 } })],
    ["a field that only the prototype has", encodeJson(FrameType.reply, {})],
    ["an ERROR without a kind", encodeJson(FrameType.error, { message: "no" })],
  ];
  for (const [name, bytes] of lies) {
    it(`is rejected: ${name}`, async () => {
      await peer.behave((socket) => socket.write(bytes));
      await expect(monitor().state(soon)).rejects.toMatchObject({ name: "monitorUnintelligible", code: "Internal" });
    });
  }

  const codes: Record<FailureKind, string> = {
    protocol: "Internal",
    busy: "ResourceExhausted",
    not_found: "NotFound",
    exists: "AlreadyExists",
    state: "FailedPrecondition",
    invalid: "InvalidArgument",
    not_executable: "InvalidArgument",
    system: "Internal",
    timeout: "DeadlineExceeded",
    limit: "ResourceExhausted",
  };
  for (const [kind, code] of Object.entries(codes)) {
    it(`ERROR ${kind} becomes ${code} and keeps its message`, async () => {
      const failure = {
        kind,
        step: "mount /proc",
        object: "container c",
        errno: 2,
        message: "container c: mount /proc: no.",
      };
      await peer.behave((socket) => socket.write(encodeJson(FrameType.error, failure)));
      const error: unknown = await monitor()
        .kill("c", 9, soon)
        .catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(MonitorError);
      expect(error).toMatchObject({ code, kind, step: "mount /proc", object: "container c", errno: 2 });
      expect(String(error)).toMatch(/container c: mount \/proc: no\. [A-Z].*\.$/);
    });
  }
});

describe("a call", () => {
  it("reports that the monitor is not listening: no directory, no socket, a stale socket", async () => {
    const unreachable = { name: "monitorUnreachable", code: "Unavailable" };
    await expect(connectMonitor(join(peer.directory, "none")).hello(soon)).rejects.toMatchObject(unreachable);
    await expect(connectMonitor(join(peer.directory, "n".repeat(200))).hello(soon)).rejects.toMatchObject(unreachable);
    await expect(monitor().hello(soon)).rejects.toMatchObject(unreachable);
    const stale =
      "import('node:net').then(n=>n.createServer().listen(process.argv[1],()=>process.kill(process.pid,9)))";
    spawnSync(process.execPath, ["-e", stale, join(peer.directory, "monitor.sock")]);
    expect(readdirSync(peer.directory)).toEqual(["monitor.sock"]);
    await expect(monitor().hello(soon)).rejects.toMatchObject(unreachable);
    await expect(monitor().exec(command, soon)).rejects.toMatchObject(unreachable);
    await expect(monitor().execSync(command, soon)).rejects.toMatchObject(unreachable);
    await expect(monitor().watch(new AbortController().signal)[Symbol.asyncIterator]().next()).rejects.toMatchObject(
      unreachable,
    );
  });

  it("ends at its deadline and hangs up", async () => {
    let closed = 0;
    await peer.behave((socket) => socket.on("close", () => closed++));
    const before = performance.now();
    const silent = { name: "monitorSilent", code: "DeadlineExceeded" };
    await expect(monitor().hello({ timeoutMs: 100 })).rejects.toMatchObject(silent);
    await expect(monitor().exec(command, { timeoutMs: 100 })).rejects.toMatchObject(silent);
    await expect(monitor().execSync(command, { timeoutMs: 100 })).rejects.toMatchObject(silent);
    await expect(monitor().portForward(80, { timeoutMs: 100 })).rejects.toMatchObject(silent);
    expect(performance.now() - before).toBeLessThan(1_500);
    await expect.poll(() => closed).toBe(4);
  });

  it("ends when the peer hangs up, also in the middle of a frame", async () => {
    await peer.behave((socket) => socket.end(encodeJson(FrameType.reply, { containers: [] }).subarray(0, 12)));
    await expect(monitor().state(soon)).rejects.toMatchObject({ name: "monitorHungUp", code: "Unavailable" });
  });

  it("is cancelled by its signal and leaves no listener on it", async () => {
    await peer.behave(() => undefined);
    const abort = new AbortController();
    const calls = [
      monitor().hello({ ...soon, signal: abort.signal }),
      monitor().exec(command, { ...soon, signal: abort.signal }),
      monitor().execSync(command, { ...soon, signal: abort.signal }),
    ];
    setTimeout(() => abort.abort(), 20);
    for (const call of calls) await expect(call).rejects.toMatchObject({ name: "callCancelled", code: "Cancelled" });
    await expect(monitor().hello({ ...soon, signal: abort.signal })).rejects.toMatchObject({ code: "Cancelled" });
    expect(getEventListeners(abort.signal, "abort")).toHaveLength(0);
  });

  it("rejects a request above 1 MiB without sending it", async () => {
    await peer.behave((socket) => socket.write(exited));
    const args = ["x".repeat(2 << 20)];
    await expect(monitor().execSync({ ...command, args }, soon)).rejects.toMatchObject({ code: "InvalidArgument" });
  });

  it("connects to a socket whose path is too long for a socket address", async () => {
    const deep = join(peer.directory, "d".repeat(120));
    mkdirSync(deep);
    const before = process.cwd();
    process.chdir(deep);
    await peer.behave((socket) => socket.write(encodeJson(FrameType.reply, { containers: [] })), "monitor.sock");
    process.chdir(before);
    expect(await connectMonitor(deep).state(soon)).toEqual([]);
  });

  it("leaks no descriptor, whether it succeeds or fails", async () => {
    let count = 0;
    await peer.behave((socket) => {
      if (++count % 3 === 0) socket.destroy();
      else if (count % 3 === 1) socket.write(encodeJson(FrameType.reply, { containers: [] }));
    });
    const before = openDescriptors().length;
    await Promise.allSettled(Array.from({ length: 300 }, () => monitor().state({ timeoutMs: 300 })));
    for (const socket of peer.sockets) socket.destroy();
    await expect.poll(() => openDescriptors().length).toBeLessThanOrEqual(before);
  });
});

describe("a monitor that keeps connections", () => {
  const nothing = encodeJson(FrameType.reply, { containers: [] });
  const requests: unknown[] = [];
  beforeEach(async () => {
    requests.length = 0;
    writeFileSync(join(peer.directory, "keeps-connections"), "");
    await peer.behave((socket, _type, payload) => {
      requests.push(decodeJson(payload));
      setTimeout(() => socket.write(nothing), 5);
    });
  });
  const open = () => peer.sockets.filter((socket) => !socket.destroyed).length;

  it("gets successive calls over one connection, and concurrent ones over others", async () => {
    const one = monitor();
    for (let i = 0; i < 3; i++) await one.state(soon);
    expect(peer.sockets).toHaveLength(1);
    expect(requests).toEqual(Array(3).fill({ op: "state", keep: true }));
    await Promise.all([one.state(soon), one.state(soon), one.state(soon)]);
    expect(peer.sockets).toHaveLength(3);
    await expect.poll(open).toBe(1);
    await one.state(soon);
    expect(peer.sockets).toHaveLength(3);
  });

  it("is called over a new connection if the idle one was closed", async () => {
    const one = monitor();
    await one.state(soon);
    peer.sockets[0]?.destroy();
    await one.state(soon);
    expect(peer.sockets).toHaveLength(2);
    // Closed just as the call was sent: the monitor has not received it.
    peer.sockets[1]?.removeAllListeners("data").once("data", () => peer.sockets[1]?.destroy());
    await one.state(soon);
    expect(peer.sockets).toHaveLength(3);
  });

  it("does not answer a call with data that follows another call's answer", async () => {
    await peer.behave((socket) => socket.write(Buffer.concat([nothing, exited])));
    const one = monitor();
    for (let i = 1; i <= 2; i++) {
      expect(await one.state(soon)).toEqual([]);
      expect(peer.sockets).toHaveLength(i);
    }
  });

  it("leaves no call waiting on a connection with an incomplete answer", async () => {
    await peer.behave((socket) => socket.write(nothing.subarray(0, 9)));
    const one = monitor();
    await expect(one.state({ timeoutMs: 30 })).rejects.toMatchObject({ name: "monitorSilent" });
    await expect.poll(open).toBe(0);
  });
});
