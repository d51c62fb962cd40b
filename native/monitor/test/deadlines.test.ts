// The monitor's own time limits, waited for in full: concurrently, so that the file takes as long as the longest limit.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { encode, Type } from "./call.ts";
import { childrenOf, errorOf, expectNeverRan, freeze, hangingStart, milliseconds } from "./frozen.ts";
import { until, withPod } from "./monitor-pod.ts";

const sigkill = 9;

test.concurrent("a binary that hangs is killed after 30 s without blocking the loop", async () => {
  await withPod({}, async (pod) => {
    const hanging = join(pod.directory, "hanging");
    writeFileSync(hanging, '#!/bin/sh\n[ "$7" = delete ] || exec sleep 1000000\n', { mode: 0o755 });
    const begun = performance.now();
    const start = pod
      .run("a", { handler: { binary: hanging, root: join(pod.directory, "runtime") } })
      .catch((error: unknown) => error);
    await pod.run("b", {});
    expect(await pod.execOutput("b", "echo", "free")).toBe("free\n");
    expect(await start).toMatchObject({ kind: "timeout" });
    expect(performance.now() - begun).toBeLessThan(40_000);
  });
}, 60_000);

test.concurrent("an exec that hangs while entering a container delays no other call and fails after 10 s", async () => {
  await withPod({}, async (pod) => {
    for (const id of ["frozen", "other", "third"]) await pod.run(id, {});
    freeze(pod, "frozen", true);
    const begun = performance.now();
    const held = pod.exec("frozen", ["true"]);
    const bounded = pod.exec("frozen", ["true"], { timeout_ms: 400 });
    const abandoned = pod.exec("frozen", ["true"]);
    await until("they are on their way", () => childrenOf(pod.pid).length >= 6);
    abandoned.socket.destroy();
    for (let round = 0; round < 10; round += 1) {
      expect(await milliseconds(() => pod.execOutput("other", "true"))).toBeLessThan(500);
    }
    expect(await milliseconds(() => pod.ask("stop", { id: "third", signal: sigkill, timeout_ms: 0 }))).toBeLessThan(
      500,
    );
    await pod.run("fourth", {});
    expect(await errorOf(bounded)).toMatchObject({ kind: "timeout" });
    expect(performance.now() - begun).toBeLessThan(2500);
    expect(await errorOf(held)).toMatchObject({
      kind: "timeout",
      message: expect.stringContaining("its setup took more than 10 s"),
    });
    // Twice the limit, because a busy machine replies late.
    expect(performance.now() - begun).toBeLessThan(20_000);
    freeze(pod, "frozen", false);
    // They die as soon as possible: three containers are left.
    await until("they are gone", () => childrenOf(pod.pid).length === 3);
  });
}, 40_000);

test.concurrent("a start that hangs fails after 30 s", async () => {
  await withPod({}, async (pod) => {
    const start = await hangingStart(pod);
    expect(await errorOf(start)).toMatchObject({ kind: "timeout" });
    await expectNeverRan(pod);
  });
}, 60_000);

test.concurrent("a start that takes 12 s, as on a node with hundreds of concurrent starts, succeeds", async () => {
  await withPod({}, async (pod) => {
    const start = await hangingStart(pod);
    await sleep(12_000);
    freeze(pod, "a", false);
    await start.frame(Type.reply);
    expect(await pod.execOutput("a", "echo", "runs")).toBe("runs\n");
  });
}, 40_000);

test.concurrent("a connection without a request is closed after 10 s while others are served", async () => {
  await withPod({}, async (pod) => {
    const begun = performance.now();
    const silent = pod.connect();
    const half = pod.connect();
    half.socket.write(encode(Type.request, "{}").subarray(0, 9));
    expect(await pod.ask("state")).toEqual({ containers: [] });
    await Promise.all([silent.ended(), half.ended()]);
    expect(performance.now() - begun).toBeGreaterThan(9_500);
    expect(performance.now() - begun).toBeLessThan(15_000);
  });
});

test.concurrent("a client with stdin that reads nothing for 30 s is detached, and its container continues", async () => {
  await withPod({}, async (pod) => {
    // Its stdin is closed immediately, even if the client still reads what was sent to it.
    const script = "read go; seq 1 300000; cat; echo end; sleep 100000";
    await pod.run("a", { args: ["sh", "-c", script], stdin: true, stdinOnce: true });
    const frozen = pod.call("attach", { id: "a", stdin: true });
    await frozen.frame(Type.started);
    frozen.socket.pause();
    frozen.send(Type.stdin, "go\n");
    await sleep(25_000);
    expect(pod.logLines("a")).not.toContain("stdout F end");
    await until("the log is complete", () => pod.logLines("a").at(-1) === "stdout F end");
    frozen.socket.resume();
    expect(await frozen.frame(Type.error)).toMatchObject({ kind: "busy" });
  });
}, 60_000);

test.concurrent("the last output of a process is kept for a client that resumes reading after more than 30 s", async () => {
  // More than the monitor buffers for a client, but not more than fits into a socket and a pipe of 64 KiB in addition:
  // whether a pipe can be larger depends on how much pipe memory others use on the node.
  await withPod({}, async (pod) => {
    await pod.run("a", { args: ["sh", "-c", "read go; head -c 460000 /dev/zero"], stdin: true });
    await pod.run("b", {});
    const attached = pod.call("attach", { id: "a", stdin: true });
    const executed = pod.exec("b", ["head", "-c", "460000", "/dev/zero"]);
    for (const call of [attached, executed]) {
      await call.frame(Type.started);
      call.socket.pause();
    }
    attached.send(Type.stdin, "go\n");
    await sleep(35_000);
    for (const call of [attached, executed]) {
      call.socket.resume();
      expect(await call.frame(Type.reply)).toMatchObject({ exit_code: 0 });
      expect(call.bytes(Type.stdout)).toHaveLength(460_000);
    }
  });
}, 60_000);
