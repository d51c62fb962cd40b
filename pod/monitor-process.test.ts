// Killing a monitor: the right process, whether its pid is known or not, and no other.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { memoryAtMost, startBoundless } from "../native/testing/boundless.ts";
import { killMonitor } from "./monitor-process.ts";

const started: ChildProcess[] = [];
afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
});

/** A process with a monitor's command line. */
async function monitorOf(podDirectory: string): Promise<ChildProcess> {
  const child = spawn("sh", ["-c", "echo up; read line", "keelson-monitor", "run", podDirectory], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  started.push(child);
  if (child.stdout !== null) await once(child.stdout, "data");
  return child;
}

function pod(): string {
  return `/run/nowhere/pods/${process.pid}-${started.length}`;
}

test("kills by pid", async () => {
  const directory = pod();
  const [mine, other] = [await monitorOf(directory), await monitorOf(`${directory}0`)];
  const gone = once(mine, "exit");
  await killMonitor(directory, mine.pid ?? 0);
  expect((await gone)[1]).toBe("SIGKILL");
  expect(other.exitCode ?? other.signalCode).toBeNull();
});

test("searches for the process if the pid is not known", async () => {
  const directory = pod();
  const [mine, other] = [await monitorOf(directory), await monitorOf(`${directory}0`)];
  const gone = once(mine, "exit");
  await killMonitor(directory, 0);
  expect((await gone)[1]).toBe("SIGKILL");
  expect(other.exitCode ?? other.signalCode).toBeNull();
});

test("does not kill another process that has reused the pid", async () => {
  const other = await monitorOf(pod());
  await killMonitor(`${pod()}-gone`, other.pid ?? 0);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(other.exitCode ?? other.signalCode).toBeNull();
});

test.each([
  ["monitor-process.ts", "import { killMonitor as look }", 'await look("/run/nowhere/pods/none", 0);'],
  [
    "leaks.ts",
    "import { findLeaks as look }",
    `await look({ ${["root", "state", "cgroupRoot", "units"].map((place) => `${place}: "/run/nowhere"`)}, cgroups: { unified: false, v2: "", v1: new Map() } });`,
  ],
])("a process with a command line of 100 MiB costs us no memory: %s", async (file, load, look) => {
  started.push(await startBoundless());
  const from = JSON.stringify(join(import.meta.dirname, file));
  expect(memoryAtMost(`${load} from ${from};\n${look}`)).toBeLessThan(250);
});
