// Logs on a file system that does not respond, because it is frozen, as fsfreeze(8) does for a snapshot of a disk.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Type } from "./call.ts";
import { TestPod, until } from "./monitor-pod.ts";

/** How long a call may take while the log is stuck; a call that hangs never returns. */
const soonMs = 3000;
/** How long the exit of a container waits for its log. */
const logLimitMs = 5000;
/** How long a start waits for its log. */
const startLimitMs = 25_000;

test("a stuck log blocks its container's output, and nothing else of the pod", async () => {
  await withFrozenLog(async ({ pod, log, thaw }) => {
    const count = () => readFileSync(log, "utf8").split("\n").length - 1;
    const script = "i=0; while :; do i=$((i + 1)); echo line $i; done";
    await pod.ask("start", { ...pod.prepare("noisy", { args: ["sh", "-c", script] }), log_path: log });
    await pod.run("other", {});
    await until("it has written", () => count() > 1000);
    freeze(log);
    await until("the log thread hangs", () => stateOfLogThread(pod) === "D");

    expect(await soon(pod.execOutput("noisy", "echo", "still here"))).toBe("still here\n");
    expect(await soon(pod.execOutput("other", "echo", "here too"))).toBe("here too\n");
    await soon(pod.run("new", { log: false }));
    await soon(pod.ask("stop", { id: "other", signal: 9, timeout_ms: 1000 }), logLimitMs + soonMs);
    await expect(soon(pod.ask("state"))).resolves.toMatchObject({ containers: { length: 3 } });
    const rotated = `${log}.1`;
    const reopen = pod.ask("reopen_log", { id: "noisy" });
    const starting = pod.call("start", { ...pod.prepare("late", {}), log_path: log });
    await soon(pod.execOutput("noisy", "true"));

    thaw();
    await soon(reopen);
    await soon(starting.frame(Type.reply));
    renameSync(log, rotated);
    await pod.ask("reopen_log", { id: "noisy" });
    const end = count();
    await until("it continues", () => count() > end + 1000);
    await pod.ask("stop", { id: "noisy", signal: 9, timeout_ms: 1000 });
    const lines = [rotated, log].flatMap((path) => readFileSync(path, "utf8").trim().split("\n"));
    const numbers = lines.map((line) => Number(/ stdout F line (\d+)$/.exec(line)?.[1]));
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
  });
}, 60_000);

test("a container whose log is stuck can be stopped, and so can its pod", async () => {
  await withFrozenLog(async ({ pod, log }) => {
    const request = pod.prepare("a", { args: ["sh", "-c", "while :; do echo line; done"] });
    await pod.ask("start", { ...request, log_path: log });
    await until("it has written", () => readFileSync(log).length > 100_000);
    freeze(log);
    await until("the log thread hangs", () => stateOfLogThread(pod) === "D");
    const begun = performance.now();
    await expect(pod.ask("stop", { id: "a", signal: 15, timeout_ms: 10 })).resolves.toMatchObject({ exit_code: 137 });
    expect(performance.now() - begun).toBeLessThan(logLimitMs + soonMs);
    expect(pod.warnings()).toContain("the file system of its log does not respond");
    await soon(pod.ask("delete", { id: "a" }));
    const hung = pod.call("start", { ...pod.prepare("b", {}), log_path: log });
    await soon(pod.ask("state"));
    hung.socket.destroy();
  });
}, 60_000);

test("a start whose log cannot be opened fails, and can be repeated when the file system answers", async () => {
  await withFrozenLog(async ({ pod, log, thaw }) => {
    freeze(log);
    const starting = pod.ask("start", { ...pod.prepare("a", {}), log_path: log });
    await expect(soon(starting, startLimitMs + soonMs)).rejects.toThrow(
      `container a: open the log ${log}: its file system does not answer`,
    );
    expect(await pod.ask("state")).toEqual({ containers: [] });
    thaw();
    await soon(pod.ask("start", { ...pod.prepare("a", {}), log_path: log }));
  });
}, 60_000);

test("the log thread ends when nothing is written", async () => {
  await withFrozenLog(async ({ pod, log }) => {
    const request = pod.prepare("a", { args: ["sh", "-c", "echo first; sleep 3; echo second; sleep 1000"] });
    await pod.ask("start", { ...request, log_path: log });
    await until("it has written", () => readFileSync(log, "utf8").includes("first"));
    await until("the thread has ended", () => stateOfLogThread(pod) === undefined);
    await until("it has written again", () => readFileSync(log, "utf8").includes("second"));
    await until("the thread has ended again", () => stateOfLogThread(pod) === undefined);
  });
}, 60_000);

interface FrozenLog {
  readonly pod: TestPod;
  /** Path of a log on a file system of its own. */
  readonly log: string;
  readonly thaw: () => void;
}

/**
 * Provides a pod, and a log whose file system `freeze` freezes. The pod is shut down before it is thawed. It is always
 * thawed in the end, because nothing can kill a process that hangs on it.
 */
async function withFrozenLog(body: (frozen: FrozenLog) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "keelson-stall-"));
  const [image, disk] = [join(directory, "image"), join(directory, "disk")];
  const thaw = () => void thawed(disk);
  execFileSync("sh", [
    "-ec",
    `truncate -s 64M ${image}; mkfs.ext4 -qF ${image}; mkdir ${disk}; mount -o loop ${image} ${disk}`,
  ]);
  const guard = spawn("sh", ["-c", `sleep 50; fsfreeze -u ${disk}`], { stdio: "ignore", detached: true });
  try {
    const pod = await TestPod.start({});
    try {
      await body({ pod, log: join(disk, "a.log"), thaw });
      await soon(pod.ask("shutdown", { grace_ms: 0 }), logLimitMs + soonMs);
      thaw();
      await until("the monitor has exited", () => pod.process.exitCode !== null);
      pod.expectNothingLeft();
    } finally {
      thaw();
      pod.cleanUp();
    }
  } finally {
    thaw();
    process.kill(-(guard.pid ?? 0), "SIGKILL");
    execFileSync("umount", [disk]);
    rmSync(directory, { recursive: true });
  }
}

function freeze(log: string): void {
  execFileSync("fsfreeze", ["-f", join(log, "..")]);
}

function thawed(disk: string): boolean {
  try {
    execFileSync("fsfreeze", ["-u", disk], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** The thread's state letter as in ps(1); undefined if there is no such thread. */
function stateOfLogThread(pod: TestPod): string | undefined {
  const tasks = `/proc/${pod.pid}/task`;
  const states = readdirSync(tasks).map((task) => stateOfTask(join(tasks, task)));
  return states.find(({ name }) => name === "keelson-log")?.state;
}

/** Without a name when it has just exited. */
function stateOfTask(task: string): { readonly name?: string | undefined; readonly state?: string | undefined } {
  try {
    const [, name, state] = /^\d+ \((.*)\) (\S)/.exec(readFileSync(join(task, "stat"), "utf8")) ?? [];
    return { name, state };
  } catch {
    return {};
  }
}

async function soon<Result>(work: Promise<Result>, limitMs = soonMs): Promise<Result> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`no result within ${limitMs} ms`)), limitMs);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
