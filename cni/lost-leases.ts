// Releases addresses that host-local leaked in a power cut: it creates the lease's file and then writes its owner, and
// for half a minute a power cut leaves the file empty. No DEL finds such a file, so the address would be lost
// permanently. Source: containernetworking/plugins, plugins/ipam/host-local/backend/disk; Keelson's host-local uses the
// same files.

import { closeSync } from "node:fs";
import { lstat, readdir, rm, stat } from "node:fs/promises";
import { isIP } from "node:net";
import { uptime } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { asObject, asString, type Host, member } from "../native/index.ts";
import type { NetworkConfig } from "./config.ts";

const usualDirectory = "/var/lib/cni/networks";
/** The kernel writes data back half a minute after it was written (vm.dirty_expire_centisecs), or later under load. */
const unwrittenMs = 600_000;
/** host-local holds its lock for a few milliseconds. */
const lockTries = 20;
const betweenTriesMs = 50;

/**
 * Time (milliseconds since the epoch) from which such files may exist: shortly before the last change of the records,
 * which precedes the power cut. Undefined if unknown, or if a daemon has changed the records since boot.
 */
export async function lostSince(recordDirectory: string): Promise<number | undefined> {
  const bootedAt = Date.now() - uptime() * 1000;
  const changedAt = await stat(recordDirectory).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  );
  return changedAt === undefined || changedAt > bootedAt ? undefined : changedAt - unwrittenMs;
}

/**
 * Frees these addresses and returns the paths of their files. Empty files older than `since` belong to an administrator
 * who reserves addresses. Takes host-local's lock, so that none of the files is a lease being created right now.
 */
export async function freeLostLeases(
  network: NetworkConfig,
  host: Pick<Host, "tryLock">,
  since: number,
): Promise<readonly string[]> {
  const freed: string[] = [];
  for (const directory of leaseDirectories(network)) {
    const names = (await readdir(directory).catch(() => [])).filter((name) => isIP(name) !== 0);
    const empty = await emptyOf(
      names.map((name) => join(directory, name)),
      since,
    );
    if (empty.length === 0) continue;
    const lock = await takeLock(join(directory, "lock"), host);
    if (lock === undefined) continue;
    try {
      for (const path of await emptyOf(empty, since)) {
        await rm(path, { force: true });
        freed.push(path);
      }
    } finally {
      closeSync(lock);
    }
  }
  return freed;
}

function leaseDirectories({ name, plugins }: NetworkConfig): readonly string[] {
  return plugins.flatMap(({ config }) => {
    const ipam = asObject(member(config, "ipam"));
    if (ipam === undefined || asString(member(ipam, "type")) !== "host-local") return [];
    return [join(asString(member(ipam, "dataDir")) || usualDirectory, name)];
  });
}

async function emptyOf(paths: readonly string[], since: number): Promise<readonly string[]> {
  const found = await Promise.all(paths.map((path) => lstat(path).catch(() => undefined)));
  return paths.filter((_, at) => found[at]?.isFile() && found[at].size === 0 && found[at].mtimeMs >= since);
}

async function takeLock(path: string, host: Pick<Host, "tryLock">): Promise<number | undefined> {
  for (let tries = 0; tries < lockTries; tries += 1) {
    const lock = await host.tryLock(path);
    if (lock !== null) return lock;
    await delay(betweenTriesMs);
  }
  return undefined;
}
