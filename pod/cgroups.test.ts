// Clearing the host's real cgroups, of whichever version: processes die, also frozen ones, and directories go.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { detectCgroups } from "../native/index.ts";
import { cgroupDirectories, cgroupProcesses, clearCgroup } from "./cgroups.ts";

const tree = await detectCgroups();
const cgroup = `/keelson-cgroups-test-${process.pid}`;
// Two of the v1 hierarchies, where there are any, are enough.
const own = { ...tree, v1: new Map([...tree.v1].filter(([name]) => name === "freezer" || name === "pids")) };
const directories = cgroupDirectories(own, cgroup);

let program: ChildProcess;
let died: Promise<unknown>;
beforeEach(async () => {
  program = spawn("sleep", ["1000"]);
  died = new Promise((resolve) => program.once("exit", resolve));
  for (const directory of directories) await mkdir(join(directory, "below"), { recursive: true });
});
afterEach(async () => {
  const thaw = { "freezer.state": "THAWED", "cgroup.freeze": "0" };
  for (const directory of directories)
    for (const [file, value] of Object.entries(thaw))
      await writeFile(join(directory, "below", file), value, { flag: "r+" }).catch(() => undefined);
  program.kill("SIGKILL");
  await died;
  for (const directory of directories)
    for (const path of [join(directory, "below"), directory]) await rmdir(path).catch(() => undefined);
});

async function moveIn(directory: string): Promise<void> {
  await writeFile(join(directory, "below/cgroup.procs"), String(program.pid));
}

test("processes in a child are killed, and the cgroup is removed from every hierarchy", async () => {
  for (const directory of directories) await moveIn(directory);
  expect(await cgroupProcesses(own, `${cgroup}/below`)).toEqual([program.pid]);
  await clearCgroup(own, cgroup, 10_000, false);
  await died;
  expect(directories.filter((directory) => existsSync(directory))).toEqual([]);
});

test("frozen processes die too", async () => {
  const v1 = own.v1.get("freezer");
  const directory = join(v1 ?? own.v2, cgroup);
  await moveIn(directory);
  const [file, frozen] = v1 === undefined ? ["cgroup.freeze", "1"] : ["freezer.state", "FROZEN"];
  await writeFile(join(directory, "below", file), frozen);
  await clearCgroup(own, cgroup, 10_000, false);
  await died;
  expect(existsSync(directory)).toBe(false);
});
