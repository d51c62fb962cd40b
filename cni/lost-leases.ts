// Addresses that host-local holds for nobody: it makes a lease's file and then writes whose it is, and a power cut or its
// own death between the two leaves the file empty. No DEL finds it again, and the address would be lost for good.
// Source: containernetworking/plugins, plugins/ipam/host-local/backend/disk; ours keeps the same files.

import { closeSync } from "node:fs";
import { readdir, rm, stat } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { asObject, asString, type Host, member } from "../native/index.ts";
import type { NetworkConfig } from "./config.ts";

const usualDirectory = "/var/lib/cni/networks";
/** host-local holds its lock for a few milliseconds. */
const lockTries = 20;
const betweenTriesMs = 50;

/** Frees them; their files' paths. Under host-local's lock, so that none is a lease that is just being made. */
export async function freeLostLeases(network: NetworkConfig, host: Pick<Host, "tryLock">): Promise<readonly string[]> {
  const freed: string[] = [];
  for (const directory of leaseDirectories(network)) {
    const names = (await readdir(directory).catch(() => [])).filter((name) => isIP(name) !== 0);
    const empty = await emptyOf(names.map((name) => join(directory, name)));
    if (empty.length === 0) continue;
    const lock = await takeLock(join(directory, "lock"), host);
    if (lock === undefined) continue;
    try {
      for (const path of await emptyOf(empty)) {
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

/** By the mode that host-local gives them: an administrator's `touch`, to keep an address free, has another. */
async function emptyOf(paths: readonly string[]): Promise<readonly string[]> {
  const found = await Promise.all(paths.map((path) => stat(path).catch(() => undefined)));
  return paths.filter((_, at) => found[at]?.size === 0 && found[at].isFile() && (found[at].mode & 0o777) === 0o600);
}

async function takeLock(path: string, host: Pick<Host, "tryLock">): Promise<number | undefined> {
  for (let tries = 0; tries < lockTries; tries += 1) {
    const lock = await host.tryLock(path);
    if (lock !== null) return lock;
    await delay(betweenTriesMs);
  }
  return undefined;
}
