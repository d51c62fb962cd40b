// The host before and after a walk: what the daemon and the plugins may leave, and nothing else.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Daemon } from "../../fixtures/daemon.ts";
import { byDesign, captureHostState, differences, type HostState } from "../../fixtures/host-state.ts";
import { until } from "../../fixtures/steps.ts";
import { at } from "./crictl.ts";

/** The host with the daemon stopped: what it keeps on disk is in the picture, its own process is not. */
export async function pictureAtRest(daemon: Daemon): Promise<HostState> {
  await daemon.stop();
  const state = await captureHostState(daemon.stateDirectories);
  await daemon.start();
  return state;
}

/** Others on this machine may come and go meanwhile, so the comparison is given a little time. */
export async function compareHost(daemon: Daemon, bridge: string, before: HostState): Promise<void> {
  await daemon.stop();
  let left: string[] = [];
  const look = async () => {
    left = differences(before, await captureHostState(daemon.stateDirectories));
    return left.every((line) => isExpected(line, daemon, bridge)) ? left : undefined;
  };
  const expected = await until("nothing of ours is left", 10_000, look).catch(() => {
    throw new Error(`left behind:\n${left.filter((line) => !isExpected(line, daemon, bridge)).join("\n")}`);
  });
  for (const line of expected) process.stdout.write(`      expected: ${line}\n`);
  const [root = ""] = daemon.stateDirectories;
  assert.deepEqual(at(JSON.parse(await readFile(join(root, "image", "index.json"), "utf8")), "manifests"), []);
}

/** What plugins never take back, and the empty shelves of the server's own that it made at the first use. */
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
