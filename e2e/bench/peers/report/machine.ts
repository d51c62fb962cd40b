// Describes the machine of a run, and measures whether anything else was running there.

import { readFile } from "node:fs/promises";
import { cpus, release, totalmem } from "node:os";
import { setTimeout as delay } from "node:timers/promises";

/** One line. */
export async function describeMachine(): Promise<string> {
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  const [v1, v2] = [mounts.includes(" - cgroup "), mounts.includes(" - cgroup2 ")];
  const cgroups = v1 ? (v2 ? "cgroup v1 (hybrid)" : "cgroup v1") : "cgroup v2";
  const [cpu] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${cpus().length} × ${cpu?.model ?? "processor"}, ${memory} GiB, Linux ${release()}, ${cgroups}`;
}

/** The busy share of all processors' time, from 0 to 1, during a few seconds; proc(5) stat. */
export async function busyShare(): Promise<number> {
  const before = await processorTimes();
  await delay(3000);
  const after = await processorTimes();
  return 1 - (after.idle - before.idle) / (after.all - before.all);
}

async function processorTimes(): Promise<{ readonly idle: number; readonly all: number }> {
  const [line = ""] = (await readFile("/proc/stat", "utf8")).split("\n");
  // user nice system idle iowait irq softirq steal; guest times are within user and nice.
  const times = line.split(/\s+/).slice(1, 9).map(Number);
  return { idle: (times[3] ?? 0) + (times[4] ?? 0), all: times.reduce((sum, time) => sum + time, 0) };
}
