// How the monitor handles clients that are wrong, slow, frozen, or too many.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { encode, Type } from "./call.ts";
import { isAlive, monitorBinary, type TestPod, until, withPod } from "./monitor-pod.ts";

async function answerTo(pod: TestPod, bytes: Buffer): Promise<Record<string, unknown>> {
  const call = pod.connect();
  call.socket.write(bytes);
  const error = await call.frame(Type.error);
  await call.ended();
  return error;
}

function header(type: number, version: number, length: number): Buffer {
  const bytes = Buffer.from([type, version, 0, 0, 0, 0, 0, 0]);
  bytes.writeUInt32LE(length, 4);
  return bytes;
}

test("invalid frames are refused, and the monitor keeps running", async () => {
  await withPod({}, async (pod) => {
    const request = Buffer.from(JSON.stringify({ op: "state" }));
    const wrong = [
      encode(Type.request, request, 2),
      encode(0x7f, request),
      encode(Type.reply, request),
      encode(Type.stdin, "no request before"),
      encode(Type.request, "not json"),
      encode(Type.request, JSON.stringify({ op: "no such" })),
      encode(Type.request, "[]"),
      header(Type.request, 1, (1 << 20) + 1),
      header(Type.request, 1, 0xffffffff),
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
    ];
    for (const bytes of wrong) expect(await answerTo(pod, bytes)).toMatchObject({ kind: "protocol" });
    await pod.run("a", {});
    for (const bytes of [header(Type.stdin, 1, 65537), encode(Type.request, request), encode(Type.resize, "abc")]) {
      const call = pod.exec("a", ["cat"], { stdin: true });
      const started = await call.frame(Type.started);
      call.socket.write(bytes);
      expect(await call.frame(Type.error)).toMatchObject({ kind: "protocol" });
      await until("the exec is dead", () => !isAlive(started.pid));
    }
    expect(await pod.ask("hello")).toMatchObject({ protocol: 1, pid: pod.pid });
  });
});

test("bad arguments are `invalid`", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", {});
    const bad: [string, object][] = [
      ["stop", { id: "a", signal: 0, timeout_ms: 1 }],
      ["stop", { id: "a", signal: 65, timeout_ms: 1 }],
      ["stop", { id: "a", signal: 15, timeout_ms: -1 }],
      ["kill", { id: "a", signal: "TERM" }],
      ["kill", { signal: 9 }],
      ["exec", { id: "a", args: [] }],
      ["exec", { id: "a", args: ["a\0b"] }],
      ["resize", { id: "a", columns: 65536, rows: 1 }],
      ["port_forward", { port: 0 }],
      ["shutdown", { grace_ms: -5 }],
    ];
    for (const [op, request] of bad) await expect(pod.ask(op, request)).rejects.toMatchObject({ kind: "invalid" });
    await expect(pod.ask("kill", { id: "b", signal: 9 })).rejects.toMatchObject({ kind: "not_found" });
    await expect(pod.ask("resize", { id: "a", columns: 1, rows: 1 })).rejects.toMatchObject({ kind: "state" });
  });
});

test("a request sent byte by byte is accepted, and one of 1 MiB", async () => {
  await withPod({}, async (pod) => {
    const call = pod.connect();
    for (const byte of encode(Type.request, JSON.stringify({ op: "state" }))) {
      call.socket.write(Buffer.from([byte]));
      await sleep(1);
    }
    expect(await call.frame(Type.reply)).toEqual({ containers: [] });
    const large = JSON.stringify({ op: "state", padding: "x".repeat((1 << 20) - 40) });
    expect(large.length).toBeGreaterThan((1 << 20) - 50);
    const second = pod.connect();
    second.send(Type.request, large);
    expect(await second.frame(Type.reply)).toEqual({ containers: [] });
  });
});

test("connections beyond 192 get the error busy, however many there are", async () => {
  await withPod({}, async (pod) => {
    const watchers = Array.from({ length: 192 }, () => pod.call("watch"));
    await Promise.all(watchers.map((call) => call.frame(Type.event)));
    expect(await pod.connect().frame(Type.error)).toMatchObject({ kind: "busy" });
    for (let n = 0; n < 200; n++) await expect(pod.ask("state")).rejects.toMatchObject({ kind: "busy" });
    for (const call of watchers.slice(0, 8)) call.socket.destroy();
    await until("a place is free", () => connectionsOf(pod) <= 184);
    expect(await pod.ask("state")).toEqual({ containers: [] });
    for (const call of watchers) call.socket.destroy();
  });
});

test("a frozen exec client blocks only its own process, and uses no memory", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", {});
    const frozen = pod.exec("a", ["cat", "/dev/zero"]);
    const started = await frozen.frame(Type.started);
    frozen.socket.pause();
    await sleep(500);
    const sleeping = () => readFileSync(`/proc/${started.pid}/stat`, "utf8").split(") ")[1]?.[0] === "S";
    await until("the writer waits", sleeping);
    const resident = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pod.pid}/status`, "utf8"))?.[1]);
    if (!monitorBinary.includes("sanitize")) expect(resident).toBeLessThan(4096);
    expect(await pod.execOutput("a", "echo", "hello")).toBe("hello\n");
    frozen.socket.destroy();
    await until("the frozen client's process is dead", () => !isAlive(started.pid));
  });
});

test("a frozen attached client is disconnected; the log and the other client continue", async () => {
  await withPod({}, async (pod) => {
    await pod.run("a", { args: ["sh", "-c", "read go; seq 1 300000; echo end; sleep 100000"], stdin: true });
    const frozen = pod.call("attach", { id: "a", stdin: false });
    const reader = pod.call("attach", { id: "a", stdin: true });
    await Promise.all([frozen.frame(Type.started), reader.frame(Type.started)]);
    frozen.socket.pause();
    reader.send(Type.stdin, "go\n");
    await until("the log is complete", () => pod.logLines("a").at(-1) === "stdout F end");
    expect(pod.logLines("a").length).toBe(300_001);
    expect(await pod.ask("state")).toMatchObject({ containers: [{ state: "running" }] });
    frozen.socket.resume();
    expect(await frozen.frame(Type.error)).toMatchObject({ kind: "busy" });
    reader.socket.destroy();
  });
});

test("a watcher that does not read is dropped", async () => {
  await withPod({}, async (pod) => {
    const frozen = pod.call("watch");
    await frozen.frame(Type.event);
    frozen.socket.pause();
    const settled = async () => {
      await until("only the watcher is connected", () => connectionsOf(pod) <= 1);
      return connectionsOf(pod);
    };
    expect(await settled()).toBe(1);
    let exits = 0;
    while ((await settled()) === 1) {
      expect(exits).toBeLessThan(2000);
      const ids = Array.from({ length: 25 }, () => `${exits++}`.padStart(128, "a"));
      await Promise.all(ids.map((id) => pod.run(id, { args: ["true"], log: false })));
      await Promise.all(ids.map((id) => pod.ask("stop", { id, signal: 9, timeout_ms: 0 })));
      await Promise.all(ids.map((id) => pod.ask("delete", { id })));
    }
    expect(exits).toBeGreaterThan(100);
    frozen.socket.resume();
    await frozen.ended();
  });
}, 120_000);

/** How many client sockets the monitor has open. */
function connectionsOf(pod: TestPod): number {
  const links = readdirSync(`/proc/${pod.pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pod.pid}/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return links.filter((link) => link.startsWith("socket:")).length - 1; // without the listening one
}
