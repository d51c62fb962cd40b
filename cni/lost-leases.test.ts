// Leases of host-local that a power cut has emptied: after a boot they are freed, under its lock, and no others are.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, truncate, utimes, writeFile } from "node:fs/promises";
import { uptime } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadHost } from "../native/index.ts";
import { parseNetwork } from "./config.ts";
import { freeLostLeases, lostSince } from "./lost-leases.ts";
import { type Lab, openLab } from "./testing/lab.ts";

const never = new AbortController().signal;
let lab: Lab;
beforeEach(async () => {
  lab = await openLab();
});
afterEach(() => lab[Symbol.asyncDispose]());

test("after a power cut an address whose lease is empty is freed", async () => {
  const { network, directory, records } = await networkWithPod();
  const [address = ""] = await lab.reserved();
  await network.close();
  await truncate(join(directory, address));
  await writeFile(join(directory, `${lab.prefix}.10`), "somebody\r\neth0");
  await writeFile(join(directory, `${lab.prefix}.11`), "");
  await writeFile(join(directory, "not-an-address"), "");
  await beforeThisBoot(records, directory);
  const hourBefore = uptime() + 3600;
  await age(join(directory, `${lab.prefix}.11`), hourBefore);

  const next = await lab.open();
  await next.collectGarbage(new Set());
  expect(next.leases()).toEqual([]);
  expect(await lab.reserved()).toEqual([`${lab.prefix}.10`, `${lab.prefix}.11`, "not-an-address"].sort());
  expect(lab.logged.join("\n")).toContain(address);
});

test("nothing is freed if only the daemon was restarted", async () => {
  const { network, directory } = await networkWithPod();
  const [address = ""] = await lab.reserved();
  await network.close();
  await truncate(join(directory, address));
  const next = await lab.open();
  await next.collectGarbage(new Set());
  expect(await lab.reserved()).toEqual([address]);
});

test("while host-local holds its lock nothing is touched, and the wait is short", async () => {
  const { directory } = await networkWithPod();
  const empty = join(directory, `${lab.prefix}.9`);
  const holder = spawn("flock", [join(directory, "lock"), "sh", "-c", `: >${empty}; echo held; exec sleep 600`]);
  await once(holder.stdout, "data");
  const parsed = parseNetwork(JSON.stringify(lab.bridgeNetwork()), true);
  if (parsed.kind === "invalid") throw new Error(parsed.reason);
  const host = loadHost();
  expect(await freeLostLeases(parsed.network, host, 0)).toEqual([]);
  const gone = once(holder, "exit");
  const children = await readFile(`/proc/${holder.pid}/task/${holder.pid}/children`, "utf8");
  for (const pid of children.trim().split(" ").map(Number)) process.kill(pid, "SIGKILL");
  await gone;
  expect(await freeLostLeases(parsed.network, host, 0)).toEqual([empty]);
  expect(await readdir(directory)).not.toContain(`${lab.prefix}.9`);
});

test("a lease that host-local writes while we wait for its lock is not considered lost", async () => {
  const { directory } = await networkWithPod();
  const address = join(directory, `${lab.prefix}.9`);
  await writeFile(address, "");
  const parsed = parseNetwork(JSON.stringify(lab.bridgeNetwork()), true);
  if (parsed.kind === "invalid") throw new Error(parsed.reason);
  const { tryLock } = loadHost();
  const afterHostLocal = async (path: string) => {
    await writeFile(address, "somebody\r\neth0");
    return await tryLock(path);
  };
  expect(await freeLostLeases(parsed.network, { tryLock: afterHostLocal }, 0)).toEqual([]);
  expect(await readFile(address, "utf8")).toBe("somebody\r\neth0");
});

test("lostSince is undefined if the records have changed since boot, or are missing", async () => {
  const records = join(lab.stateDir, "records");
  expect(await lostSince(records)).toBeUndefined();
  await mkdir(records);
  expect(await lostSince(records)).toBeUndefined();
  await age(records, uptime() + 60);
  // Not too long before the cut, so that an administrator's files are not considered lost leases.
  const ago = (Date.now() - ((await lostSince(records)) ?? 0)) / 1000 - uptime();
  expect(ago).toBeGreaterThan(600);
  expect(ago).toBeLessThan(700);
});

async function networkWithPod() {
  await lab.install("bridge", "host-local");
  await lab.writeConfig("10-lab.conflist", lab.bridgeNetwork([], { ipMasq: false }));
  const network = await lab.open();
  await network.attach(await lab.pod(), never);
  const [name = ""] = await readdir(lab.dataDir);
  return { network, directory: join(lab.dataDir, name), records: join(lab.stateDir, "cni") };
}

/** Dates the directories and everything in them before this boot. */
async function beforeThisBoot(...directories: readonly string[]): Promise<void> {
  for (const directory of directories) {
    for (const name of await readdir(directory)) await age(join(directory, name), uptime() + 60);
    await age(directory, uptime() + 60);
  }
}

async function age(path: string, seconds: number): Promise<void> {
  const time = Date.now() / 1000 - seconds;
  await utimes(path, time, time);
}
