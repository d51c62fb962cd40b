// Compares the host before and after a run: only what the daemon and the plugins leave by design may remain.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Daemon } from "../../fixtures/daemon.ts";
import { byDesign, captureHostState, differences, type HostState } from "../../fixtures/host-state.ts";
import { until } from "../../fixtures/steps.ts";
import { at } from "./crictl.ts";

/** The host's state with the daemon stopped: its files on disk are included, its process is not. */
export async function stateAtRest(daemon: Daemon): Promise<HostState> {
  await daemon.stop();
  const state = await captureHostState(daemon.stateDirectories);
  await daemon.start();
  return state;
}

/** Retries the comparison for a while, because of other activity on this machine. */
export async function compareHost(daemon: Daemon, bridge: string, before: HostState): Promise<void> {
  await daemon.stop();
  let left: string[] = [];
  const look = async () => {
    left = differences(before, await captureHostState(daemon.stateDirectories));
    return left.every((line) => isExpected(line, daemon, bridge)) ? left : undefined;
  };
  const expected = await until("nothing of ours is left behind", 10_000, look).catch(() => {
    throw new Error(`left behind:\n${left.filter((line) => !isExpected(line, daemon, bridge)).join("\n")}`);
  });
  for (const line of expected) process.stdout.write(`      expected: ${line}\n`);
  const [root = ""] = daemon.stateDirectories;
  assert.deepEqual(at(JSON.parse(await readFile(join(root, "image", "index.json"), "utf8")), "manifests"), []);
}

/** Files that plugins never remove, and the empty directories that the server created on first use. */
function isExpected(line: string, daemon: Daemon, bridge: string): boolean {
  const [root = "", run = "", hostLocal = ""] = daemon.stateDirectories;
  const reservations = join(hostLocal, "keelson");
  return (
    byDesign(line) ||
    [
      `+ links: ${bridge} bridge`,
      `+ files: ${reservations}/`,
      `+ files: ${join(reservations, "lock")}`,
      `+ files: ${join(reservations, "last_reserved_ip.0")}`,
      `+ files: ${join(root, "image", "index.json")}`,
      `+ files: ${join(run, "pods")}/`,
    ].includes(line)
  );
}
