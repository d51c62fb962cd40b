// The network leases on disk: what is attached, and everything a DEL needs.
//
// One file per sandbox, `<directory>/<sandbox id>.json`. It holds the configuration as it was at ADD, since the files
// in /etc/cni/net.d may change or be removed while the pod runs. ADD's result is a second line, which is not flushed: a
// power cut may lose or truncate it, and DEL then runs without the result, as after an interrupted ADD. The first line
// is written before the first plugin runs, and flushed before ADD is answered: a power cut between the two also loses
// everything the plugins created in the kernel. An incomplete first line belongs to an ADD that was never answered.

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
  /** Indices of the plugins that are still owed a DEL, in chain order. */
  readonly owed: readonly number[];
}

export type Lease = Common &
  ({ readonly state: "attaching" } | { readonly state: "attached"; readonly result: JsonObject } | FailedLease);

/** `detach-failed` is retried; `given-up` no longer is, and the administrator must clean up what its plugins left. */
export type FailedLease = Common & {
  readonly state: "detach-failed" | "given-up";
  readonly lastError: string;
  /** Time of the first failure, milliseconds since the epoch; for humans who read the file. */
  readonly failedSince: number;
  readonly result?: JsonObject;
};

export interface LeaseStore {
  get(sandboxId: string): Lease | undefined;
  all(): readonly Lease[];
  /** Adds a lease, which survives the daemon once this resolves. Adds none if it rejects (`leaseNotWritten`). */
  add(lease: Lease): Promise<AddedLease>;
  /** Replaces a lease; after a power cut it may be the old one again. Rejects as `add`; the old one remains then. */
  save(lease: Lease): Promise<void>;
  /** Marks the sandbox as attached; after a power cut it may be "attaching" again. Rejects as `save`. */
  addResult(sandboxId: string, result: JsonObject): Promise<void>;
  /** Removes the lease. If a power cut restores the file, the sandbox is detached again, which is harmless. */
  remove(sandboxId: string): Promise<void>;
}

export interface AddedLease {
  /** Resolves once the lease survives a power cut. Rejects with `leaseNotWritten`; the lease exists even then. */
  readonly flushed: Promise<void>;
}

/**
 * Reads the leases in the directory (created if missing). A file that is not a lease is reported to `damaged` and left
 * for the administrator; an incomplete one is reported to `unfinished` and removed.
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
        // After a power cut the name refers to the old or the new version; both are valid.
        await replaceFile(path, formatLease(lease), "content");
      } catch (error) {
        throw notWritten(sandboxId, path, error);
      }
      leases.set(sandboxId, lease);
    },
    async addResult(sandboxId, result) {
      const lease = leases.get(sandboxId);
      if (lease === undefined) throw new Error(`Pod sandbox ${sandboxId} has no network lease.`);
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
  /** A file whose first line is incomplete because of a power cut, a kill or a full disk. */
  readonly unfinished: (path: string) => void;
}

/** The leases in the directory, by sandbox id; none if the directory is missing. */
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

/** Whether it is a temporary file left by a daemon killed while writing; until November 2026 they ended in ".tmp". */
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

/** Undefined if there is no result, or a power cut has left it incomplete. */
function parseResultLine(line: string): JsonObject | undefined {
  return asObject(member(parseObject(line) ?? {}, "result"));
}

/** The lease, or what is wrong with the text; undefined if the text is incomplete. */
function parseLease(text: string, sandboxId: string): Lease | string | undefined {
  const [first = "", second] = text.split("\n");
  const file = parseObject(first);
  if (file === undefined && second === undefined) return undefined;
  if (file === undefined) return "it is not a JSON object";
  if (member(file, "format") !== 1) return "its format is not 1";
  const network = parseNetwork(JSON.stringify(member(file, "network") ?? null), true);
  if (network.kind === "invalid") return `its network is not valid: ${network.reason}`;
  const target = parseTarget(asObject(member(file, "target")));
  if (target === undefined || target.containerId !== sandboxId || !isIdentifier(sandboxId))
    return "its target is not that of the sandbox it is named after";
  const owed = (asArray(member(file, "owed")) ?? []).map(asInteger).filter((index) => index !== undefined);
  const common = { network: network.network, target, owed };
  // In the first line of failed leases, and of all leases written by daemons until November 2026.
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
