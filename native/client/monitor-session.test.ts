// Sessions, execSync and watches with a peer that floods, stalls or dies while they are running.

import { buffer } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { connectMonitor, type ExecRequest } from "../index.ts";
import { exited, exitedContainer, frame, started, TestPeer } from "../testing/peer.ts";
import { encodeJson, FrameType } from "./frames.ts";

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

describe("a session", () => {
  it("pauses the peer while an output is not read, and loses nothing", async () => {
    const total = 32 << 20;
    let sent = 0;
    await peer.behave((socket, type) => {
      if (type !== FrameType.request) return;
      socket.write(started);
      const pump = () => {
        for (; sent < total; sent += 65_536) {
          const kind = (sent / 65_536) % 2 === 0 ? FrameType.stdout : FrameType.stderr;
          if (!socket.write(frame(kind, Buffer.alloc(65_536, sent / 65_536)))) {
            sent += 65_536;
            socket.once("drain", pump);
            return;
          }
        }
        socket.write(exited);
      };
      pump();
    });
    const session = await monitor().exec(command, soon);
    const stdout = buffer(session.stdout);
    await delay(200);
    // stderr is not read: the data in flight is limited by the high-water mark, a chunk and the socket buffers.
    expect(sent).toBeLessThan(2 << 20);
    const [out, err, outcome] = await Promise.all([stdout, buffer(session.stderr), session.done]);
    expect([out.length, err.length]).toEqual([total / 2, total / 2]);
    expect([out[65_536], err[65_536]]).toEqual([2, 3]);
    expect(outcome).toEqual({ exitCode: 0, signal: 0 });
  });

  it("pauses its writer while the peer does not read, and delivers every byte in order", async () => {
    const received: Buffer[] = [];
    let closed = false;
    await peer.behave((socket, type, payload) => {
      if (type === FrameType.request) {
        socket.write(started);
        socket.pause();
        setTimeout(() => socket.resume(), 200);
      }
      if (type === FrameType.stdin) received.push(Buffer.from(payload));
      if (type !== FrameType.stdinClose) return;
      closed = true;
      socket.write(exited);
    });
    const session = await monitor().exec(command, soon);
    const input = Buffer.alloc(5_000_000, "0123456789");
    let written = 0;
    for (let at = 0; at < input.length; at += 100_000) {
      const taken = session.stdin.write(input.subarray(at, at + 100_000));
      written += 100_000;
      if (!taken) await new Promise((resolve) => session.stdin.once("drain", resolve));
      if (received.length === 0) expect(written).toBeLessThan(1_000_000);
    }
    session.stdin.end();
    await session.done;
    expect(closed).toBe(true);
    expect(Buffer.concat(received).equals(input)).toBe(true);
  });

  it("survives a peer that dies: output ends, done rejects, writes do not throw", async () => {
    await peer.behave((socket, type) => {
      if (type === FrameType.request)
        socket.write(Buffer.concat([started, frame(FrameType.stdout, Buffer.from("last"))]));
      else socket.destroy();
    });
    const session = await monitor().exec(command, soon);
    const stdout = buffer(session.stdout);
    session.stdin.write("x");
    await expect(session.done).rejects.toMatchObject({ name: "monitorHungUp" });
    expect((await stdout).toString()).toBe("last");
    expect(await buffer(session.stderr)).toHaveLength(0);
    expect(session.stdin.destroyed).toBe(true);
    session.stdin.write("y");
    session.resize(80, 25);
    session.cancel();
    await delay(20);
  });

  it("can be cancelled, and drops the output of a destroyed stream without stopping the other", async () => {
    let closed = false;
    await peer.behave((socket, type) => {
      if (type !== FrameType.request) return;
      socket.on("close", () => {
        closed = true;
      });
      socket.write(started);
      for (let i = 0; i < 64; i++) socket.write(frame(FrameType.stderr, Buffer.alloc(65_536)));
      socket.write(frame(FrameType.stdout, Buffer.from("seen")));
    });
    const session = await monitor().exec(command, soon);
    session.stderr.destroy();
    const [first]: unknown[] = await new Promise((resolve) => session.stdout.once("data", (...data) => resolve(data)));
    expect(String(first)).toBe("seen");
    session.cancel();
    await expect(session.done).rejects.toMatchObject({ code: "Cancelled" });
    await expect.poll(() => closed).toBe(true);
  });

  it("rejects if the answer or output arrives before the start", async () => {
    await peer.behave((socket) => socket.write(exited));
    await expect(monitor().exec(command, soon)).rejects.toMatchObject({ name: "monitorUnintelligible" });
    await peer.behave((socket) => socket.write(frame(FrameType.stdout, Buffer.from("early"))));
    await expect(monitor().exec(command, soon)).rejects.toMatchObject({ name: "monitorUnintelligible" });
  });
});

describe("execSync", () => {
  async function flood(stdoutMiB: number, stderrMiB: number): Promise<{ out: Buffer; err: Buffer }> {
    await peer.behave((socket) => {
      socket.write(started);
      for (let i = 0; i < stdoutMiB * 16; i++) socket.write(frame(FrameType.stdout, Buffer.alloc(65_536, "o")));
      for (let i = 0; i < stderrMiB * 16; i++) socket.write(frame(FrameType.stderr, Buffer.alloc(65_536, "e")));
      socket.write(exited);
    });
    const { stdout, stderr } = await monitor().execSync(command, { timeoutMs: 10_000 });
    return { out: stdout, err: stderr };
  }
  const most = (16 << 20) - (64 << 10);

  it("truncates both outputs to fit a message, each to at least half of it", async () => {
    const { out, err } = await flood(20, 20);
    expect([out.length, err.length]).toEqual([most / 2, most / 2]);
  });

  it("gives one output the space that the other does not need", async () => {
    const { out, err } = await flood(20, 1);
    expect([out.length, err.length]).toEqual([most - (1 << 20), 1 << 20]);
  });

  it("rejects if a started command exceeds its time limit", async () => {
    await peer.behave((socket) => socket.write(started));
    const begin = performance.now();
    const call = monitor().execSync({ ...command, timeoutMs: 1 }, soon);
    await expect(call).rejects.toMatchObject({ name: "monitorSilent", code: "DeadlineExceeded" });
    expect(performance.now() - begin).toBeGreaterThan(4_900);
  });
});

describe("watch", () => {
  const state = encodeJson(FrameType.event, { type: "state", containers: [exitedContainer] });
  const oom = (id: number) => encodeJson(FrameType.event, { type: "oom", id: `${id}` });

  it("ends after all events when the peer hangs up, and skips unknown event types", async () => {
    const novelty = encodeJson(FrameType.event, { type: "novelty", of: "a later version" });
    await peer.behave((socket) => socket.end(Buffer.concat([state, novelty, oom(1)])));
    const types: string[] = [];
    for await (const event of monitor().watch(new AbortController().signal)) types.push(event.type);
    expect(types).toEqual(["state", "oom"]);
  });

  it("rejects if the first event is not the state, or the peer hangs up before it", async () => {
    await peer.behave((socket) => socket.write(oom(1)));
    const first = () => monitor().watch(new AbortController().signal)[Symbol.asyncIterator]().next();
    await expect(first()).rejects.toMatchObject({ name: "monitorUnintelligible" });
    await peer.behave((socket) => socket.destroy());
    await expect(first()).rejects.toMatchObject({ name: "monitorHungUp" });
  });

  it("pauses the peer for a slow consumer, then continues", async () => {
    let sent = 0;
    const total = 40_000;
    await peer.behave((socket) => {
      socket.write(state);
      const pump = () => {
        for (; sent < total; sent++) if (!socket.write(oom(sent))) return void socket.once("drain", pump);
        socket.end();
      };
      pump();
    });
    const seen: string[] = [];
    for await (const event of monitor().watch(new AbortController().signal)) {
      if (seen.length === 1) {
        await delay(1_000);
        expect(sent).toBeLessThan(total / 2);
      }
      if (event.type === "oom") seen.push(event.id);
    }
    expect(new Set(seen).size).toBe(total);
  });

  it("ends and hangs up when its signal aborts or its consumer stops iterating", async () => {
    let closed = 0;
    await peer.behave((socket) => {
      socket.on("close", () => closed++);
      socket.write(state);
    });
    const abort = new AbortController();
    for await (const event of monitor().watch(abort.signal)) {
      expect(event.type).toBe("state");
      setTimeout(() => abort.abort(), 10);
    }
    for await (const _ of monitor().watch(new AbortController().signal)) break;
    for await (const _ of monitor().watch(abort.signal)) expect.unreachable();
    await expect.poll(() => closed).toBe(2);
  });
});
