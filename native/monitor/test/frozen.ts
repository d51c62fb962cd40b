// Helpers for tests of the monitor that make a process hang while entering a container, with a frozen cgroup.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { type Call, Type } from "./call.ts";
import { type TestPod, until } from "./monitor-pod.ts";

/** Freezes the container's cgroup, as a checkpoint does: processes that join it are frozen too. */
export function freeze(pod: TestPod, id: string, frozen: boolean): void {
  const directory = freezerOf(pod, id);
  mkdirSync(directory, { recursive: true });
  if (hasV1Freezer) writeFileSync(join(directory, "freezer.state"), frozen ? "FROZEN" : "THAWED");
  else writeFileSync(join(directory, "cgroup.freeze"), frozen ? "1" : "0");
}

/** Frozen processes cannot even die; a process that has not joined yet can still be killed. */
export function processesInFreezer(pod: TestPod, id: string): number[] {
  return numbersIn(join(freezerOf(pod, id), "cgroup.procs"));
}

export function childrenOf(pid: number): number[] {
  return numbersIn(`/proc/${pid}/task/${pid}/children`);
}

export const hasV1Freezer = existsSync("/sys/fs/cgroup/freezer");

function freezerOf(pod: TestPod, id: string): string {
  return join(hasV1Freezer ? "/sys/fs/cgroup/freezer" : "/sys/fs/cgroup", pod.cgroup, id);
}

function numbersIn(file: string): number[] {
  return readFileSync(file, "utf8").split(/\s/).filter(Boolean).map(Number);
}

export async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

export function errorOf(call: Call): Promise<Record<string, unknown>> {
  return call.frame(Type.error);
}

/** Begins a start that hangs because its cgroup is frozen. */
export async function hangingStart(pod: TestPod): Promise<Call> {
  const request = pod.prepare("a", { args: ["sh", "-c", "touch /ran; sleep 1000"] });
  freeze(pod, "a", true);
  const before = childrenOf(pod.pid).length;
  const start = pod.call("start", request);
  await until("the start is in progress", () => childrenOf(pod.pid).length > before);
  return start;
}

export async function expectNeverRan(pod: TestPod): Promise<void> {
  await until("nothing is left of it", () => childrenOf(pod.pid).length === 0);
  expect(await pod.ask("state")).toEqual({ containers: [] });
  expect(existsSync(join(pod.directory, "containers/a/upper/ran"))).toBe(false);
  const freezer = join("/sys/fs/cgroup/freezer", pod.cgroup, "a");
  await until("its cgroup is gone", () => !existsSync(freezer));
}
