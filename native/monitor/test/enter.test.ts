// Issue 8: starting and entering do not block the monitor's loop (A2), a start is aborted with its caller (C17), and
// streams leave room for other calls (B13).

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type Call, type Frame, Type } from "./call.ts";
import {
  childrenOf,
  errorOf,
  expectNeverRan,
  freeze,
  hangingStart,
  hasV1Freezer,
  processesInFreezer,
} from "./frozen.ts";
import { isAlive, type TestPod, until, withPod } from "./monitor-pod.ts";

const sigterm = 15;
const sigkill = 9;

describe("A2: a process that hangs while entering a container", () => {
  test("counts towards a limit of its container only", async () => {
    await withPod({}, async (pod) => {
      await pod.run("frozen", {});
      const [first] = childrenOf(pod.pid);
      await pod.run("other", {});
      freeze(pod, "frozen", true);
      const gone = pod.exec("frozen", ["true"]);
      const isInIt = (pid: number) => pid !== first && processesInFreezer(pod, "frozen").includes(pid);
      await until("it is on its way", () => childrenOf(pod.pid).some(isInIt));
      gone.socket.destroy(); // it no longer counts as a stream, but still hangs
      const held = Array.from({ length: 127 }, () => pod.exec("frozen", ["true"], { brief: true }));
      await until("all are on their way", () => childrenOf(pod.pid).length >= 130);
      expect(await errorOf(pod.exec("frozen", ["true"], { brief: true }))).toMatchObject({ kind: "busy" });
      const inOther = pod.exec("other", ["echo", "in"], { brief: true });
      await inOther.frame(Type.reply);
      expect(inOther.output()).toBe("in\n");
      for (const call of held) call.socket.destroy();
      freeze(pod, "frozen", false);
      await until("they are gone", () => childrenOf(pod.pid).length === 2);
      expect(await pod.execOutput("frozen", "echo", "in")).toBe("in\n");
    });
  });

  // With cgroup v2 it is in the cgroup from its first moment and cannot close anything.
  describe.runIf(hasV1Freezer)("does not keep the streams of other processes open:", () => {
    async function expectStdinEnds(pod: TestPod, hang: () => Promise<Call>): Promise<void> {
      const cat = pod.exec("other", ["cat"], { stdin: true });
      await cat.frame(Type.started);
      const hanging = await hang();
      cat.send(Type.stdin, "text");
      cat.send(Type.stdinClose);
      expect(await Promise.race([cat.frame(Type.reply), sleep(2000)])).toEqual({ exit_code: 0, signal: 0 });
      expect(cat.output()).toBe("text");
      hanging.socket.destroy();
    }

    test("an exec", async () => {
      await withPod({}, async (pod) => {
        for (const id of ["frozen", "other"]) await pod.run(id, {});
        freeze(pod, "frozen", true);
        const before = processesInFreezer(pod, "frozen").length;
        await expectStdinEnds(pod, async () => {
          const exec = pod.exec("frozen", ["true"]);
          await until("it hangs", () => processesInFreezer(pod, "frozen").length > before);
          return exec;
        });
        freeze(pod, "frozen", false);
      });
    });

    test("a start", async () => {
      await withPod({}, async (pod) => {
        await pod.run("other", {});
        await expectStdinEnds(pod, async () => {
          const start = await hangingStart(pod);
          await until("it hangs", () => processesInFreezer(pod, "a").length > 0);
          return start;
        });
      });
    });
  });
});

describe("C17: a start", () => {
  test("whose caller hangs up never runs", async () => {
    await withPod({}, async (pod) => {
      const start = await hangingStart(pod);
      start.socket.destroy();
      await expectNeverRan(pod);
      expect(await pod.run("a", {})).toMatchObject({ state: "running" });
    });
  });

  test("whose caller hung up before the request was read never runs", async () => {
    await withPod({}, async (pod) => {
      const request = pod.prepare("a", { args: ["sh", "-c", "touch /ran; sleep 1000"] });
      process.kill(pod.pid, "SIGSTOP");
      const start = pod.call("start", request);
      await sleep(100);
      start.socket.destroy();
      await sleep(100);
      process.kill(pod.pid, "SIGCONT");
      await expectNeverRan(pod);
    });
  });

  test("that is stopped is aborted at the stop's limit, and the stop waits for that", async () => {
    await withPod({}, async (pod) => {
      const start = await hangingStart(pod);
      const failed = errorOf(start);
      const begun = performance.now();
      const stop = errorOf(pod.call("stop", { id: "a", signal: sigterm, timeout_ms: 500 }));
      expect(await stop).toMatchObject({ kind: "not_found" });
      expect(performance.now() - begun).toBeGreaterThan(450);
      expect(await failed).toMatchObject({ message: expect.stringContaining("stopped while it was starting") });
      await expectNeverRan(pod);
    });
  });

  test("that succeeds after a stop was requested is stopped", async () => {
    await withPod({}, async (pod) => {
      const start = await hangingStart(pod);
      const stop = pod.ask("stop", { id: "a", signal: sigterm, timeout_ms: 3000 });
      await sleep(100);
      freeze(pod, "a", false);
      expect(await start.frame(Type.reply)).toMatchObject({ state: "running" });
      expect(await stop).toMatchObject({ state: "exited" });
    });
  });

  test("by an OCI runtime whose caller hangs up: its processes are killed, the container deleted", async () => {
    await withPod({}, async (pod) => {
      const binary = join(pod.directory, "slow");
      const calls = join(pod.directory, "calls");
      const running = join(pod.directory, "running");
      const script = `#!/bin/sh\necho "$7" >> ${calls}\n[ "$7" = delete ] && exit 0\necho $$ > ${running}\nsleep 1000001 & sleep 1000001\n`;
      writeFileSync(binary, script, { mode: 0o755 });
      const handler = { binary, root: join(pod.directory, "oci") };
      const start = pod.call("start", pod.prepare("a", { handler }));
      await until("create runs", () => existsSync(running) && readFileSync(running, "utf8").endsWith("\n"));
      const runtime = Number(readFileSync(running, "utf8"));
      await until("with its own child", () => childrenOf(runtime).length > 0);
      const family = [runtime, ...childrenOf(runtime)];
      start.socket.destroy();
      await until("all of it is dead", () => !family.some((pid) => isAlive(pid)));
      await until("delete was called", () => readFileSync(calls, "utf8") === "create\ndelete\n");
      await until("it is forgotten", () => childrenOf(pod.pid).length === 0);
      expect(await pod.ask("state")).toEqual({ containers: [] });
    });
  });
});

describe("B13: with 112 execs open", () => {
  test("a pod can be watched, inspected, stopped and shut down; one more exec is busy, and 16 brief ones are not", async () => {
    await withPod({}, async (pod) => {
      await pod.run("a", {});
      await pod.run("b", {});
      const sleeps = (length: number, request = {}) =>
        Promise.all(Array.from({ length }, () => pod.exec("a", ["sleep", "100000"], request).frame(Type.started)));
      await sleeps(112);
      for (let round = 0; round < 100; round += 1) {
        expect(await errorOf(pod.exec("a", ["true"]))).toMatchObject({ kind: "busy" });
      }
      await sleeps(16, { brief: true });
      expect(await errorOf(pod.exec("a", ["true"], { brief: true }))).toMatchObject({ kind: "busy" });
      const watch = pod.call("watch");
      await watch.frame(Type.event);
      await pod.run("c", {});
      await pod.ask("kill", { id: "b", signal: sigkill });
      await pod.exited("b");
      await pod.ask("delete", { id: "b" });
      await pod.ask("stop", { id: "c", signal: sigkill, timeout_ms: 0 });
      // Many refused calls do not block one that is accepted.
      const refused = Array.from({ length: 300 }, () => pod.exec("a", ["true"]));
      expect(await pod.ask("stop", { id: "a", signal: sigkill, timeout_ms: 0 })).toMatchObject({ state: "exited" });
      for (const call of refused) await call.ended();
      const kinds = refused.map(({ frames }) => frames.map((frame: Frame) => frame.type));
      expect(kinds.filter(([type]) => type !== Type.error)).toEqual([]);
    });
  });
});
