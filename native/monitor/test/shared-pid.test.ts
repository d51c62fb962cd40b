// A PID namespace that a pod's containers share, and its init.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type TestPod, until, withPod } from "./monitor-pod.ts";

test("with a shared PID namespace nothing survives a container's init", async () => {
  await withPod({ pid: "pod" }, async (pod) => {
    expect(pod.ready.init_pid).toBeTypeOf("number");
    const args = ["sh", "-c", "setsid sh -c 'trap \"\" TERM HUP; sleep 1000000' & sleep 0.1; exit 4"];
    await pod.run("a", { args });
    await pod.run("b", {});
    const begun = performance.now();
    expect(await pod.exited("a")).toMatchObject({ exit_code: 4 });
    expect(performance.now() - begun).toBeLessThan(900); // the leftover process held the log's pipe and was killed
    expect((await pod.execOutput("b", "sh", "-c", "ps | grep -c 'sleep 100000[0]'")).trim()).toBe("1");
  });
});

test("the shared init reaps orphans, and may make no system calls except to wait", async () => {
  await withPod({ pid: "pod" }, async (pod) => {
    await pod.run("a", {});
    const status = readFileSync(`/proc/${pod.ready.init_pid}/status`, "utf8");
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(readFileSync(`/proc/${pod.ready.init_pid}/limits`, "utf8")).toMatch(/^Max address space +0 +0 /m);
    const orphan = (await pod.execOutput("a", "sh", "-c", "sleep 1 >/dev/null 2>&1 & echo $!")).trim();
    expect(await pod.execOutput("a", "grep", "PPid", `/proc/${orphan}/status`)).toBe("PPid:\t1\n");
    await pod.execOutput("a", "sh", "-c", `while [ -e /proc/${orphan} ]; do sleep 0.02; done`);
  });
});

describe.runIf(process.arch === "x64")("a container with CAP_SYS_PTRACE", () => {
  async function attack(pod: TestPod, ...args: string[]): Promise<void> {
    const injector = join(pod.directory, "layer/bin/injector");
    execFileSync("g++", ["-static", "-o", injector, join(import.meta.dirname, "../../testing/syscall_injector.cc")]);
    await pod.run("a", { args: ["injector", ...args], capabilities: ["CAP_SYS_PTRACE"] });
    await pod.exited("a");
  }

  test("gains nothing by injecting a system call into the shared init, which ends the pod", async () => {
    await withPod({ pid: "pod" }, async (pod) => {
      await attack(pod);
      expect(pod.logLines("a")).toEqual(["stdout F injected"]);
      await until("the init is gone", () => pod.warnings().includes("PID namespace died with exit code 159")); // SIGSYS
    });
  });

  test("gets only seconds of CPU time out of the shared init, which ends the pod", async () => {
    await withPod({ pid: "pod" }, async (pod) => {
      await attack(pod, "spin");
      expect(pod.logLines("a")).toEqual([]);
      await until("the init is gone", () => pod.warnings().includes("PID namespace died with exit code 137"));
    });
  });
});

test("when the shared init dies, every container's exit is reported", async () => {
  await withPod({ pid: "pod" }, async (pod) => {
    await pod.run("a", {});
    await pod.run("b", {});
    const watch = pod.call("watch");
    process.kill(Number(pod.ready.init_pid), "SIGKILL");
    expect(await pod.exited("a")).toMatchObject({ exit_code: 137 });
    expect(await pod.exited("b")).toMatchObject({ exit_code: 137 });
    // The init itself is reaped last.
    await watch.until(() => watch.frames.some((frame) => frame.payload.includes("init_lost")));
    await expect(pod.run("c", {})).rejects.toMatchObject({ kind: "state" });
    // A daemon that was not connected learns it from its own watch.
    const late = pod.call("watch");
    await late.until(() => late.frames.some((frame) => frame.payload.includes("init_lost")));
    expect(pod.warnings()).toContain("the init of the pod's PID namespace died");
    expect(await pod.ask("hello")).not.toHaveProperty("init_pid");
  });
});
