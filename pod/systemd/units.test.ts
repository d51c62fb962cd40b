// Scopes, with one scripted peer on a socket as bus and systemd, and with the real ones where available.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import codec, { type Message } from "@homebridge/dbus-native/lib/message.js";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { detectCgroups } from "../../native/index.ts";
import { systemdRoot } from "../cgroups.ts";
import { SystemBus, systemBusSocket } from "./bus.ts";
import { type Scope, Systemd, scopeProperties } from "./units.ts";

const scope: Scope = { name: "keelson-ab.scope", slice: "a-b.slice", description: "Pod ns/web" };
const job = "/org/freedesktop/systemd1/job/7";

/** A peer's answers to a call: a body with its signature, an error, a signal, or a closed connection. */
interface Peer {
  reply(signature?: string, body?: readonly unknown[]): void;
  refuse(errorName: string, text: string): void;
  signalJob(path: string, result: string): void;
  readonly socket: Socket;
}

let directory: string;
let server: Server;
let calls: Message[];
let sockets: Set<Socket>;
let answer: (call: Message, peer: Peer) => void;
/** How many connections get no answer. */
let mute: number;
let systemd: Systemd;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "keelson-bus-"));
  calls = [];
  mute = 0;
  sockets = new Set();
  server = createServer(serve);
  await listen();
  await mkdir(join(directory, "cgroup", "a.slice/a-b.slice"), { recursive: true });
  systemd = new Systemd(join(directory, "cgroup"), new SystemBus(join(directory, "bus")), join(directory, "proc"));
});

afterEach(async () => {
  systemd.close();
  hangUp();
  server.close();
  await rm(directory, { recursive: true });
});

const listen = () => new Promise<void>((resolve) => server.listen(join(directory, "bus"), resolve));

function hangUp(): void {
  for (const socket of sockets) socket.destroy();
}

function serve(socket: Socket): void {
  sockets.add(socket);
  mute -= 1;
  if (mute >= 0) return;
  socket.once("data", (hello) => {
    expect(hello.toString()).toBe(`\0AUTH EXTERNAL ${Buffer.from(String(process.getuid?.())).toString("hex")}\r\n`);
    socket.write("OK 0123456789abcdef0123456789abcdef\r\n");
    socket.once("data", (begin) => {
      expect(begin.toString("latin1")).toMatch(/^BEGIN\r\n/);
      socket.pause();
      // The first call may come in the same packet or later.
      if (begin.length > 7) socket.unshift(begin.subarray(7));
      codec.unmarshalMessages(socket, (call) => take(call, socket), {});
    });
  });
}

function take(call: Message, socket: Socket): void {
  const send = (message: Message) => socket.write(codec.marshall({ serial: 1, ...message }));
  const replySerial = call.serial ?? 0;
  const peer: Peer = {
    reply: (signature = "", body = []) =>
      void send({ type: 2, replySerial, ...(signature === "" ? {} : { signature, body }) }),
    refuse: (errorName, text) => void send({ type: 3, replySerial, errorName, signature: "s", body: [text] }),
    signalJob: (path, result) =>
      void send({
        type: 4,
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "JobRemoved",
        signature: "uoss",
        body: [7, path, scope.name, result],
      }),
    socket,
  };
  if (call.destination === "org.freedesktop.DBus") {
    if (call.member === "Hello") peer.reply("s", [":1.5"]);
    else peer.reply();
    return;
  }
  calls.push(call);
  answer(call, peer);
}

async function processIn(pid: number, cgroup: string): Promise<void> {
  await mkdir(join(directory, "proc", String(pid)), { recursive: true });
  await writeFile(join(directory, "proc", String(pid), "cgroup"), `0::${cgroup}\n`);
}

test("a scope is delegated and unlimited, and counts as started once its job is done", async () => {
  answer = (_, peer) => {
    // Both in one packet: the job's completion must not be missed.
    peer.socket.cork();
    peer.reply("o", [job]);
    peer.signalJob("/org/freedesktop/systemd1/job/8", "failed");
    peer.signalJob(job, "done");
    peer.socket.uncork();
  };
  await systemd.startScope(scope, [41, 42]);
  await systemd.startScope(scope, [43]);
  expect(calls.map(({ member }) => member)).toEqual(["StartTransientUnit", "StartTransientUnit"]);
  expect(calls[0]).toMatchObject({ destination: "org.freedesktop.systemd1", flags: 2, signature: "ssa(sv)a(sa(sv))" });
  const [name, mode, properties] = calls[0]?.body ?? [];
  expect([name, mode]).toEqual([scope.name, "fail"]);
  expect(properties).toHaveLength(scopeProperties(scope, []).length);
  expect(Object.fromEntries(scopeProperties(scope, [41, 42]))).toMatchObject({
    Slice: ["s", "a-b.slice"],
    Delegate: ["b", true],
    PIDs: ["au", [41, 42]],
    Before: ["as", ["keelson.service"]],
    TasksMax: ["t", "18446744073709551615"],
    CollectMode: ["s", "inactive-or-failed"],
  });
});

const deep = { ...scope, slice: "a-b-c-d.slice" };
const started = (_: Message, peer: Peer) => {
  peer.reply("o", [job]);
  peer.signalJob(job, "done");
};
/** The units that each call requests besides the scope. */
const besides = () => calls.map(({ body }) => body?.[3] as [string, unknown][]);

test("missing slices are created with the scope, and removed with their last scope", async () => {
  answer = started;
  await systemd.startScope(scope, [41]);
  await systemd.startScope(deep, [41]);
  expect(besides().map((units) => units.map(([name]) => name))).toEqual([[], ["a-b-c.slice", "a-b-c-d.slice"]]);
  expect(JSON.stringify(besides()[1]?.[0]?.[1])).toMatch(/"StopWhenUnneeded",.*true/);
});

test("slices that another start creates at the same time are used", async () => {
  answer = (call, peer) => {
    if (calls.length === 1) peer.refuse("org.freedesktop.systemd1.UnitExists", "Unit a-b-c.slice was already loaded.");
    else started(call, peer);
  };
  await systemd.startScope(deep, [41]);
  expect(besides()).toEqual([expect.anything(), []]);
});

test("a start waits for a slice that is being removed with its last scope", async () => {
  const refusals = ["TransactionIsDestructive", "NoSuchUnit"];
  answer = (call, peer) => {
    const refusal = refusals.shift();
    if (refusal === undefined) started(call, peer);
    else peer.refuse(`org.freedesktop.systemd1.${refusal}`, "Unit a-b.slice not found.");
  };
  await systemd.startScope(scope, [41]);
  expect(calls).toHaveLength(3);
});

test("a refusal is reported with systemd's message, and a failed job with its result", async () => {
  answer = (_, peer) => peer.refuse("org.freedesktop.DBus.Error.InvalidArgs", "Slice is not valid.");
  await expect(systemd.startScope(scope, [41])).rejects.toMatchObject({
    name: "scopeFailed",
    message: expect.stringContaining("The scope keelson-ab.scope was not started by systemd: Slice is not valid."),
  });
  answer = (_, peer) => {
    peer.reply("o", [job]);
    peer.signalJob(job, "canceled");
  };
  await expect(systemd.startScope(scope, [41])).rejects.toMatchObject({ message: expect.stringContaining("canceled") });
});

test("a start survives a disconnected bus and a systemd that re-executes", async () => {
  const answers: (typeof answer)[] = [
    (_, peer) => peer.socket.destroy(),
    (_, peer) => peer.refuse("org.freedesktop.DBus.Error.NoReply", "Message recipient disconnected"),
    (_, peer) => {
      peer.reply("o", [job]);
      peer.socket.destroy();
    },
    (_, peer) => peer.socket.write("no message at all, and longer than a header is"),
    (_, peer) => {
      peer.reply("o", [job]);
      peer.signalJob(job, "done");
    },
  ];
  answer = (call, peer) => answers.shift()?.(call, peer);
  await systemd.startScope(scope, [41]);
  expect(answers).toEqual([]);
});

test("a bus that does not answer the authentication is replaced by a new connection", async () => {
  mute = 1;
  answer = (_, peer) => {
    peer.reply("o", [job]);
    peer.signalJob(job, "done");
  };
  await systemd.startScope(scope, [41]);
  expect(sockets.size).toBe(2);
});

test("a scope whose start took effect but whose answer was lost is found by its processes", async () => {
  answer = (call, peer) => {
    if (calls.length === 1) return peer.socket.destroy();
    void processIn(41, `/a.slice/a-b.slice/${scope.name}`).then(() =>
      peer.refuse("org.freedesktop.systemd1.UnitExists", `Unit ${call.body?.[0]} was already loaded.`),
    );
  };
  await systemd.startScope(scope, [41]);
  expect(calls).toHaveLength(2);
});

test("the completion of a job whose signal was lost is found by the processes", async () => {
  answer = (_, peer) => {
    void processIn(41, `/a.slice/a-b.slice/${scope.name}`);
    peer.reply("o", [job]);
  };
  await systemd.startScope(scope, [41]);
});

test("a connection whose call was not answered in time is not used again", async () => {
  const bus = new SystemBus(join(directory, "bus"));
  answer = () => undefined;
  const call = async (ms: number) => await bus.call("StopUnit", "ss", [scope.name, "fail"], AbortSignal.timeout(ms));
  await expect(call(500)).rejects.toMatchObject({ name: "TimeoutError" });
  answer = (_, peer) => peer.reply();
  await call(10_000);
  expect(sockets.size).toBe(2);
  bus.close();
});

test("a join that systemd refuses for good starts no scope", async () => {
  answer = (_, peer) => peer.refuse("org.freedesktop.DBus.Error.AccessDenied", "no");
  await expect(systemd.joinScope(scope, [41])).rejects.toMatchObject({ name: "scopeFailed" });
  expect(calls.map(({ member }) => member)).toEqual(["AttachProcessesToUnit"]);
});

test("at shutdown systemd gives a scope's processes the default grace period of Kubernetes", () => {
  expect(scopeProperties(scope, [41])).toContainEqual(["TimeoutStopUSec", ["t", "30000000"]]);
});

test("a start is complete only when all of its processes are in the scope", async () => {
  let last = 0;
  answer = (_, peer) => {
    void processIn(41, `/a.slice/a-b.slice/${scope.name}`);
    setTimeout(() => {
      last = 42;
      void processIn(42, `/a.slice/a-b.slice/${scope.name}`);
    }, 1_500);
    peer.reply("o", [job]);
  };
  await systemd.startScope(scope, [41, 42]);
  expect(last).toBe(42);
});

test("starts beyond the bus's limit of pending calls per connection wait for their turn", async () => {
  const unanswered: Peer[] = [];
  answer = (_, peer) => {
    // dbus-daemon's max_replies_per_connection.
    if (unanswered.length === 128) peer.refuse("org.freedesktop.DBus.Error.LimitsExceeded", "too many pending replies");
    else unanswered.push(peer);
  };
  const starts = Array.from({ length: 200 }, () => systemd.startScope(scope, [41]));
  const all = Promise.all(starts);
  const answers = setInterval(() => {
    for (const peer of unanswered.splice(0)) {
      peer.reply("o", [job]);
      peer.signalJob(job, "done");
    }
  }, 50);
  await all.finally(() => clearInterval(answers));
  expect(calls).toHaveLength(200);
});

test("a shared scope is started by the first and joined by the others", async () => {
  answer = ({ member }, peer) => {
    if (member === "StartTransientUnit") {
      peer.reply("o", [job]);
      peer.signalJob(job, "done");
    } else if (calls.length === 1) {
      peer.refuse("org.freedesktop.systemd1.NoSuchUnit", "Unit not loaded.");
    } else {
      peer.reply();
    }
  };
  await systemd.joinScope(scope, [41]);
  await systemd.joinScope(scope, [42]);
  expect(calls.map(({ member, body }) => [member, body?.[0]])).toEqual([
    ["AttachProcessesToUnit", scope.name],
    ["StartTransientUnit", scope.name],
    ["AttachProcessesToUnit", scope.name],
  ]);
  expect(calls[2]?.body?.[2]).toEqual([42]);
});

const isRealHere = existsSync("/run/systemd/system") && existsSync(systemBusSocket);

async function startRealScope(): Promise<void> {
  const root = systemdRoot(await detectCgroups());
  const real = new Systemd(root);
  const own = { ...scope, name: `keelson-test-${process.pid}.scope`, slice: "keelson-test.slice" };
  const child = spawn("sleep", ["60"]);
  try {
    await real.startScope(own, [child.pid ?? 0]);
    const path = `/keelson.slice/keelson-test.slice/${own.name}`;
    expect(await readFile(`/proc/${child.pid}/cgroup`, "utf8")).toContain(path);
    child.kill("SIGKILL");
    await vi.waitFor(() => expect(existsSync(join(root, "keelson.slice/keelson-test.slice"))).toBe(false), 5_000);
  } finally {
    child.kill("SIGKILL");
    real.close();
  }
}

if (isRealHere) test("the real systemd starts one", startRealScope);
