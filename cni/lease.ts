// The network leases on disk: what is attached, and all that a DEL needs.
//
// One file for each sandbox, `<directory>/<sandbox id>.json`. It holds the configuration as it was
// at ADD, since the files in /etc/cni/net.d may change or go while the pod lives. ADD's result is a second line of it, which
// nobody waits for the disk with: a power cut may take it or leave half of it, and DEL goes without the result then, as
// after an ADD that was cut short. The first line is written before the first plugin runs, and on disk before the ADD is
// answered: a power cut between the two takes what the plugins made in the kernel as well. What is not a whole line belongs
// to an ADD that was never answered.

import { mkdir, readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import {
  asArray,
  asInteger,
  asObject,
  asString,
  changeFiles,
  type JsonObject,
  type KeelsonError,
  member,
  messageOf,
  parseObject,
  readFiles,
  replaceFile,
} from "../native/index.ts";
import type { ChainTarget } from "./chain.ts";
import { isIdentifier, type NetworkConfig, parseNetwork } from "./config.ts";
import { cniErrors } from "./errors.ts";

interface Common {
  readonly network: NetworkConfig;
  readonly target: ChainTarget;
  /** Indices of the plugins that are owed a DEL, in the chain's order. */
  readonly owed: readonly number[];
}

export type Lease = Common &
  ({ readonly state: "attaching" } | { readonly state: "attached"; readonly result: JsonObject } | FailedLease);

/** `detach-failed` is retried; `given-up` is not any more, and what its plugins left is the administrator's. */
export type FailedLease = Common & {
  readonly state: "detach-failed" | "given-up";
  readonly lastError: string;
  /** Of the first failure, milliseconds since the epoch; for whoever reads the file. */
  readonly failedSince: number;
  readonly result?: JsonObject;
};

export interface LeaseStore {
  get(sandboxId: string): Lease | undefined;
  all(): readonly Lease[];
  /** A new one: it outlives this daemon when it resolves. Rejects with `leaseNotWritten`; there is none then. */
  add(lease: Lease): Promise<AddedLease>;
  /** One that is there. On disk when it resolves, also after a power cut. Rejects as `add`; the old one stands then. */
  save(lease: Lease): Promise<void>;
  /** The sandbox is attached. Outlives the daemon; after a power cut it may be "attaching" again. Rejects as `save`. */
  addResult(sandboxId: string, result: JsonObject): Promise<void>;
  /** Forgets the lease. Should a power cut bring the file back, it is detached once more, which is harmless. */
  remove(sandboxId: string): Promise<void>;
}

export interface AddedLease {
  /** It outlives a power cut. Rejects with `leaseNotWritten`; the lease is there all the same. */
  readonly flushed: Promise<void>;
}

/**
 * Reads the leases of the directory (made if missing). A file that is not a lease is reported by
 * `damaged` and left for the administrator; one that is `unfinished` is reported and removed.
 */
export async function openLeaseStore(directory: string, faults: LeaseFaults): Promise<LeaseStore> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const name of await readdir(directory)) {
    if (isDraft(name)) await rm(join(directory, name), { force: true }).catch(() => undefined);
  }
  const unfinished: string[] = [];
  const leases = await readLeases(directory, { ...faults, unfinished: (path) => unfinished.push(path) });
  for (const path of unfinished) {
    faults.unfinished(path);
    await rm(path, { force: true }).catch(() => undefined);
  }
  const pathOf = (sandboxId: string): string => join(directory, `${sandboxId}.json`);
  return {
    get: (sandboxId) => leases.get(sandboxId),
    all: () => [...leases.values()],
    async add(lease) {
      const sandboxId = lease.target.containerId;
      const path = pathOf(sandboxId);
      try {
        await changeFiles([{ kind: "file", path, content: formatLease(lease), mode: 0o600 }]);
      } catch (error) {
        await rm(path, { force: true }).catch(() => undefined);
        throw notWritten(sandboxId, path, error);
      }
      leases.set(sandboxId, lease);
      const steps = [path, directory].map((path) => ({ kind: "flush", path }) as const);
      const flushed = changeFiles(steps).catch((error: unknown) => {
        throw notWritten(sandboxId, path, error);
      });
      flushed.catch(() => undefined);
      return { flushed };
    },
    async save(lease) {
      const sandboxId = lease.target.containerId;
      const path = pathOf(sandboxId);
      try {
        // A name that is replaced is either version, both good.
        await replaceFile(path, formatLease(lease), "content");
      } catch (error) {
        throw notWritten(sandboxId, path, error);
      }
      leases.set(sandboxId, lease);
    },
    async addResult(sandboxId, result) {
      const lease = leases.get(sandboxId);
      if (lease === undefined) throw new Error(`There is no lease of pod sandbox ${sandboxId}.`);
      const path = pathOf(sandboxId);
      try {
        await changeFiles([{ kind: "file", path, content: formatResult(result), isAdded: true }]);
      } catch (error) {
        throw notWritten(sandboxId, path, error);
      }
      const { network, target, owed } = lease;
      leases.set(sandboxId, { network, target, owed, state: "attached", result });
    },
    async remove(sandboxId) {
      await changeFiles([{ kind: "remove", path: pathOf(sandboxId) }]);
      leases.delete(sandboxId);
    },
  };
}

function notWritten(sandboxId: string, path: string, error: unknown): KeelsonError {
  return cniErrors.leaseNotWritten({ sandboxId, path, reason: messageOf(error) }, error);
}

export interface LeaseFaults {
  readonly damaged: (path: string, reason: string) => void;
  /** One whose first line a power cut, a kill or a full disk has cut short. */
  readonly unfinished: (path: string) => void;
}

/** The leases of the directory by sandbox; a missing directory has none. */
export async function readLeases(directory: string, faults: LeaseFaults): Promise<Map<string, Lease>> {
  const leases = new Map<string, Lease>();
  const names = await readdir(directory).catch(() => []);
  const paths = names.filter((one) => one.endsWith(".json")).map((name) => join(directory, name));
  for (const [index, file] of (await readFiles(paths)).entries()) {
    const path = paths[index] ?? "";
    const lease = "bytes" in file ? parseLease(file.bytes.toString(), basename(path, ".json")) : messageOf(file.error);
    if (lease === undefined) faults.unfinished(path);
    else if (typeof lease === "string") faults.damaged(path, lease);
    else leases.set(lease.target.containerId, lease);
  }
  return leases;
}

/** Left by a daemon that was killed while it wrote; until November 2026 they ended in ".tmp". */
function isDraft(name: string): boolean {
  return name.endsWith(".new") || name.endsWith(".tmp");
}

function formatLease(lease: Lease): string {
  const { network, target, owed } = lease;
  const line = JSON.stringify({
    format: 1,
    state: lease.state,
    network: {
      name: network.name,
      cniVersion: network.cniVersion,
      disableGC: network.disableGc,
      plugins: network.plugins.map(({ config }) => config),
    },
    target,
    owed,
    ...("result" in lease ? { result: lease.result } : {}),
    ...("lastError" in lease ? { lastError: lease.lastError, failedSince: lease.failedSince } : {}),
  });
  return `${line}\n`;
}

function formatResult(result: JsonObject): string {
  return `${JSON.stringify({ result })}\n`;
}

/** Undefined without one, and where a power cut has left less than all of it. */
function parseResultLine(line: string): JsonObject | undefined {
  return asObject(member(parseObject(line) ?? {}, "result"));
}

/** The lease, or what is wrong with the text; undefined for one that is unfinished. */
function parseLease(text: string, sandboxId: string): Lease | string | undefined {
  const [first = "", second] = text.split("\n");
  const file = parseObject(first);
  if (file === undefined && second === undefined) return undefined;
  if (file === undefined) return "it is not a JSON object";
  if (member(file, "format") !== 1) return "it is not of format 1";
  const network = parseNetwork(JSON.stringify(member(file, "network") ?? null), true);
  if (network.kind === "invalid") return `its network is not valid: ${network.reason}`;
  const target = parseTarget(asObject(member(file, "target")));
  if (target === undefined || target.containerId !== sandboxId || !isIdentifier(sandboxId))
    return "its target is not that of the sandbox it is named for";
  const owed = (asArray(member(file, "owed")) ?? []).map(asInteger).filter((index) => index !== undefined);
  const common = { network: network.network, target, owed };
  // In the first line of leases that failed, and of all that daemons until November 2026 wrote.
  const result = asObject(member(file, "result")) ?? parseResultLine(second ?? "");
  const failedLease = (state: FailedLease["state"]): FailedLease => {
    const lastError = asString(member(file, "lastError")) ?? "";
    const failedSince = asInteger(member(file, "failedSince")) ?? 0;
    return { ...common, state, lastError, failedSince, ...(result === undefined ? {} : { result }) };
  };
  switch (member(file, "state")) {
    case "attaching":
      return result === undefined ? { ...common, state: "attaching" } : { ...common, state: "attached", result };
    case "attached":
      return result === undefined ? "it has no result" : { ...common, state: "attached", result };
    case "detach-failed":
      return failedLease("detach-failed");
    case "given-up":
      return failedLease("given-up");
    default:
      return "its state is unknown";
  }
}

function parseTarget(target: JsonObject | undefined): ChainTarget | undefined {
  if (target === undefined) return undefined;
  const containerId = asString(member(target, "containerId"));
  const netns = asString(member(target, "netns"));
  const interfaceName = asString(member(target, "interfaceName"));
  const args = asString(member(target, "args"));
  const capabilities = asObject(member(target, "capabilities"));
  if (containerId === undefined || netns === undefined || interfaceName === undefined) return undefined;
  if (args === undefined || capabilities === undefined) return undefined;
  return { containerId, netns, interfaceName, args, capabilities };
}
