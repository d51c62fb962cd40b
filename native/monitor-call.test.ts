// Faults of the other side that a real monitor does not commit: a peer that speaks the protocol's bytes,
// and then is silent, lies, floods, dies. The calls themselves are tested on the real one (monitor-client.test.ts).

import { getEventListeners } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FailureKind } from "./failure.ts";
import { encodeJson, FrameDecoder, FrameType, frameHeader, framesToMonitor } from "./frames.ts";
import { connectMonitor, type ExecRequest, MonitorError } from "./index.ts";

type Peer = (socket: Socket, type: FrameType, payload: Buffer) => void;

let base: string;
let servers: Server[] = [];
let sockets: Socket[] = [];

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "keelson-call-"));
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
  servers = [];
  sockets = [];
  rmSync(base, { recursive: true, force: true });
});

/** Listens as the monitor of `base` would; `peer` gets each frame of each connection. */
async function listen(peer: Peer): Promise<void> {
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.push(socket);
    const decoder = new FrameDecoder(framesToMonitor);
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => decoder.push(chunk, (type, payload) => peer(socket, type, payload)));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(join(base, "monitor.sock"), resolve));
}

function frame(type: FrameType, payload: Buffer): Buffer {
  return Buffer.concat([frameHeader(type, payload.length), payload]);
}

const started = encodeJson(FrameType.started, { pid: 7 });
const exited = encodeJson(FrameType.reply, { exit_code: 0, signal: 0 });
const run = {
  id: "c",
  state: "exited",
  pid: 1,
  started_at: "1700000000000000001",
  finished_at: "18446744073709551615",
  exit_code: 137,
  signal: 9,
  oom_killed: true,
  tty: false,
};
const soon = { timeoutMs: 2_000 };
const command: ExecRequest = { id: "c", args: ["true"], tty: false, stdin: true, timeoutMs: 0 };
const monitor = () => connectMonitor(base);

function openSockets(): number {
  return readdirSync("/proc/self/fd").length;
}

describe("an answer", () => {
  it("is read however its bytes come", async () => {
    await listen(async (socket) => {
      for (const byte of encodeJson(FrameType.reply, { containers: [run] })) {
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
    ["a frame only the daemon sends", encodeJson(FrameType.request, { op: "hello" })],
    ["a frame above the limit", frameHeader(FrameType.reply, 0x7fff_ffff)],
    ["no JSON", frame(FrameType.reply, Buffer.from("{x}"))],
    ["output in a call without any", frame(FrameType.stdout, Buffer.from("x"))],
    ["a missing field", encodeJson(FrameType.reply, { containers: [{ ...run, pid: undefined }] })],
    ["a time that is a number", encodeJson(FrameType.reply, { containers: [{ ...run, started_at: 17 }] })],
    ["an unknown state", encodeJson(FrameType.reply, { containers: [{ ...run, state: "asleep" }] })],
    ["a list that is none", encodeJson(FrameType.reply, { containers: { length: 1 } })],
    ["a field of the prototype's", encodeJson(FrameType.reply, {})],
    ["an ERROR without a kind", encodeJson(FrameType.error, { message: "no" })],
  ];
  for (const [name, bytes] of lies) {
    it(`is refused: ${name}`, async () => {
      await listen((socket) => socket.write(bytes));
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
    it(`of ERROR ${kind} becomes ${code} and keeps what it says`, async () => {
      const failure = {
        kind,
        step: "mount /proc",
        object: "container c",
        errno: 2,
        message: "container c: mount /proc: no.",
      };
      await listen((socket) => socket.write(encodeJson(FrameType.error, failure)));
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
  it("tells that nobody listens: no directory, no socket, a stale socket", async () => {
    const unreachable = { name: "monitorUnreachable", code: "Unavailable" };
    await expect(connectMonitor(join(base, "none")).hello(soon)).rejects.toMatchObject(unreachable);
    await expect(connectMonitor(join(base, "n".repeat(200))).hello(soon)).rejects.toMatchObject(unreachable);
    await expect(monitor().hello(soon)).rejects.toMatchObject(unreachable);
    const stale =
      "import('node:net').then(n=>n.createServer().listen(process.argv[1],()=>process.kill(process.pid,9)))";
    const { spawnSync } = await import("node:child_process");
    spawnSync(process.execPath, ["-e", stale, join(base, "monitor.sock")]);
    expect(readdirSync(base)).toEqual(["monitor.sock"]);
    await expect(monitor().hello(soon)).rejects.toMatchObject(unreachable);
    await expect(monitor().exec(command, soon)).rejects.toMatchObject(unreachable);
    await expect(monitor().execSync(command, soon)).rejects.toMatchObject(unreachable);
    await expect(monitor().watch(new AbortController().signal)[Symbol.asyncIterator]().next()).rejects.toMatchObject(
      unreachable,
    );
  });

  it("ends at its deadline and hangs up", async () => {
    let closed = 0;
    await listen((socket) => socket.on("close", () => closed++));
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
    await listen((socket) => socket.end(encodeJson(FrameType.reply, { containers: [] }).subarray(0, 12)));
    await expect(monitor().state(soon)).rejects.toMatchObject({ name: "monitorHungUp", code: "Unavailable" });
  });

  it("obeys its signal and leaves no listener on it", async () => {
    await listen(() => undefined);
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

  it("refuses a request above 1 MiB by itself", async () => {
    await listen((socket) => socket.write(exited));
    const args = ["x".repeat(2 << 20)];
    await expect(monitor().execSync({ ...command, args }, soon)).rejects.toMatchObject({ code: "InvalidArgument" });
  });

  it("reaches a socket whose path is longer than an address holds", async () => {
    base = join(base, "d".repeat(120));
    mkdirSync(base);
    const server = createServer((socket) => socket.end(encodeJson(FrameType.reply, { containers: [] })));
    servers.push(server);
    process.chdir(base);
    await new Promise<void>((resolve) => server.listen("monitor.sock", resolve));
    process.chdir("/");
    expect(await monitor().state(soon)).toEqual([]);
  });

  it("leaves no descriptor, whatever becomes of it", async () => {
    let count = 0;
    await listen((socket) => {
      if (++count % 3 === 0) socket.destroy();
      else if (count % 3 === 1) socket.write(encodeJson(FrameType.reply, { containers: [] }));
    });
    const before = openSockets();
    await Promise.allSettled(Array.from({ length: 300 }, () => monitor().state({ timeoutMs: 300 })));
    for (const socket of sockets) socket.destroy();
    await expect.poll(openSockets).toBeLessThanOrEqual(before);
  });
});

describe("a session", () => {
  it("pauses the peer for a reader that does not read, and loses nothing", async () => {
    const total = 32 << 20;
    let sent = 0;
    await listen((socket, type) => {
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
    // stderr is unread: what is on the way is bounded by the stream's mark, a chunk and the sockets' buffers.
    expect(sent).toBeLessThan(2 << 20);
    const [out, err, outcome] = await Promise.all([stdout, buffer(session.stderr), session.done]);
    expect([out.length, err.length]).toEqual([total / 2, total / 2]);
    expect([out[65_536], err[65_536]]).toEqual([2, 3]);
    expect(outcome).toEqual({ exitCode: 0, signal: 0 });
  });

  it("pauses its writer while the peer does not read, and hands over every byte in order", async () => {
    const received: Buffer[] = [];
    let closed = false;
    await listen((socket, type, payload) => {
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
      if (!taken && written > 600_000 && received.length === 0) expect(session.stdin.writableNeedDrain).toBe(true);
      if (!taken) await new Promise((resolve) => session.stdin.once("drain", resolve));
      if (received.length === 0) expect(written).toBeLessThan(1_000_000);
    }
    session.stdin.end();
    await session.done;
    expect(closed).toBe(true);
    expect(Buffer.concat(received).equals(input)).toBe(true);
  });

  it("survives a peer that dies: output ends, done rejects, writers do not blow up", async () => {
    await listen((socket, type) => {
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

  it("is cancelled, and drops the output of a destroyed stream without stopping the other", async () => {
    let closed = false;
    await listen((socket, type) => {
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

  it("is refused when the answer comes before the start, or output does", async () => {
    await listen((socket) => socket.write(exited));
    await expect(monitor().exec(command, soon)).rejects.toMatchObject({ name: "monitorUnintelligible" });
    servers.pop()?.close();
    await listen((socket) => socket.write(frame(FrameType.stdout, Buffer.from("early"))));
    await expect(monitor().exec(command, soon)).rejects.toMatchObject({ name: "monitorUnintelligible" });
  });
});

describe("execSync", () => {
  async function flood(stdoutMiB: number, stderrMiB: number): Promise<{ out: Buffer; err: Buffer }> {
    await listen((socket) => {
      socket.write(started);
      for (let i = 0; i < stdoutMiB * 16; i++) socket.write(frame(FrameType.stdout, Buffer.alloc(65_536, "o")));
      for (let i = 0; i < stderrMiB * 16; i++) socket.write(frame(FrameType.stderr, Buffer.alloc(65_536, "e")));
      socket.write(exited);
    });
    const { stdout, stderr } = await monitor().execSync(command, { timeoutMs: 10_000 });
    return { out: stdout, err: stderr };
  }
  const most = (16 << 20) - (64 << 10);

  it("keeps both outputs within a message, each at least half of it", async () => {
    const { out, err } = await flood(20, 20);
    expect([out.length, err.length]).toEqual([most / 2, most / 2]);
  });

  it("gives one output what the other does not need", async () => {
    const { out, err } = await flood(20, 1);
    expect([out.length, err.length]).toEqual([most - (1 << 20), 1 << 20]);
  });

  it("rejects when a started command does not end in its time", async () => {
    await listen((socket) => socket.write(started));
    const begin = performance.now();
    const call = monitor().execSync({ ...command, timeoutMs: 1 }, soon);
    await expect(call).rejects.toMatchObject({ name: "monitorSilent", code: "DeadlineExceeded" });
    expect(performance.now() - begin).toBeGreaterThan(4_900);
  });
});

describe("watch", () => {
  const state = encodeJson(FrameType.event, { type: "state", containers: [run] });
  const oom = (id: number) => encodeJson(FrameType.event, { type: "oom", id: `${id}` });

  it("ends when the peer hangs up, after every event, and skips kinds it does not know", async () => {
    const novelty = encodeJson(FrameType.event, { type: "novelty", of: "a later version" });
    await listen((socket) => socket.end(Buffer.concat([state, novelty, oom(1)])));
    const types: string[] = [];
    for await (const event of monitor().watch(new AbortController().signal)) types.push(event.type);
    expect(types).toEqual(["state", "oom"]);
  });

  it("rejects when it does not begin with the state, or hangs up before", async () => {
    await listen((socket) => socket.write(oom(1)));
    const first = () => monitor().watch(new AbortController().signal)[Symbol.asyncIterator]().next();
    await expect(first()).rejects.toMatchObject({ name: "monitorUnintelligible" });
    servers.pop()?.close();
    await listen((socket) => socket.destroy());
    await expect(first()).rejects.toMatchObject({ name: "monitorHungUp" });
  });

  it("pauses the peer for a slow consumer, then goes on", async () => {
    let sent = 0;
    const total = 40_000;
    await listen((socket) => {
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

  it("ends at its signal, or when its consumer leaves, and hangs up", async () => {
    let closed = 0;
    await listen((socket) => {
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
