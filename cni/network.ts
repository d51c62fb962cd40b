// The pod network: attaches and detaches pods by running the plugins of the configured CNI network.

import { join } from "node:path";
import { type Host, isDoneWithin, KeelsonError, type Log, messageOf } from "../native/index.ts";
import { addChain, type ChainTarget, collectsGarbage, type End, gcChain, missingPlugins, startChain } from "./chain.ts";
import { isIdentifier, type LoadedConfig, type NetworkConfig } from "./config.ts";
import { cniErrors } from "./errors.ts";
import { type Lease, type LeaseStore, openLeaseStore } from "./lease.ts";
import { freeLostLeases, lostSince } from "./lost-leases.ts";
import { createOrphans } from "./orphans.ts";
import { createPins, isNamespace } from "./pins.ts";
import { openReadiness, type Readiness } from "./readiness.ts";
import { claimsInterface, podAddresses } from "./result.ts";
import { cniArgs, podCapabilities, podKey } from "./runtime-config.ts";
import { createTeardown, type Teardown } from "./teardown.ts";
import { createTurns, type Turns } from "./turns.ts";
import type { Attachment, Network, NetworkReadiness, PodNetwork } from "./types.ts";

/** All in milliseconds. */
export interface NetworkLimits {
  /** For one plugin in ADD. */
  readonly pluginMs: number;
  /** For one plugin in GC, during which no pod is attached or detached. */
  readonly gcMs: number;
  /** How long a GC waits for a moment at which no attach or detach is in progress. */
  readonly quietMs: number;
  /** For all DELs of one sandbox together. */
  readonly teardownMs: number;
  /** For one plugin in STATUS. */
  readonly statusMs: number;
  /** Age from which a STATUS answer is refreshed. */
  readonly statusAgeMs: number;
  /** First and longest delay between retries of a failed teardown. */
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  /** A failing teardown is given up after this much retry delay in total within this daemon's lifetime. */
  readonly giveUpMs: number;
}

const defaultLimits: NetworkLimits = {
  // With the DEL after a failure, within the four minutes that the kubelet allows for a pod. Plugins such as Calico's
  // serialize on a node: when a hundred pods start at once, the last one waits for two minutes or more.
  pluginMs: 170_000,
  gcMs: 60_000,
  quietMs: 600_000,
  teardownMs: 60_000,
  statusMs: 10_000,
  statusAgeMs: 10_000,
  firstRetryMs: 1000,
  longestRetryMs: 300_000,
  giveUpMs: 24 * 3600_000,
};

export interface NetworkOptions {
  /** Directory of the network configuration, such as /etc/cni/net.d; may be missing. */
  readonly confDir: string;
  /** Plugin directories, such as /opt/cni/bin; the first one that contains a plugin wins. */
  readonly binDirs: readonly string[];
  /** Durable directory; the leases are kept in its `cni/` subdirectory. */
  readonly stateDir: string;
  /** Volatile directory; namespaces that plugins still need are pinned in its `netns/` subdirectory. */
  readonly runDir: string;
  readonly host: NetworkHost;
  readonly log: Log;
  readonly limits?: Partial<NetworkLimits>;
}

export type NetworkHost = Pick<Host, "pinNamespace" | "unmount" | "hasInterface" | "tryLock">;

/** The interface of every pod: CRI has no way to name another. */
const interfaceName = "eth0";
/**
 * Maximum number of sandboxes of one pod whose ADD failed and whose DEL fails too. Each holds a namespace and is
 * retried, and the kubelet creates another one every few seconds.
 */
const mostNotDetached = 3;
/** Sandboxes that collectGarbage detaches at once: after a reboot there may be hundreds, each with a few processes. */
const detachedAtOnce = 4;
/** How long `close` waits for running plugins to finish, and then for killed ones to exit. */
const finishMs = 300;
const killedMs = 200;

/**
 * Reads leases and configuration and watches the configuration directory until `close`. Resumes failed teardowns.
 * Before a DEL, plugins that a previous daemon left running for the same pod are killed (a DEL gets time to finish).
 * The caller must run `collectGarbage`, since it knows which pods are alive.
 */
export async function openNetwork(options: NetworkOptions): Promise<Network> {
  const { confDir, binDirs, stateDir, log } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const records = join(stateDir, "cni");
  const lostFrom = await lostSince(records);
  const leases = await openLeaseStore(records, {
    damaged: (path, reason) =>
      log("warn", "network lease cannot be read; its addresses may have leaked", { path, reason }),
    unfinished: (path) => log("warn", "incomplete network lease removed: writing it was interrupted", { path }),
  });
  const failed = leases.all().filter(({ state }) => state === "detach-failed");
  const pins = createPins(join(options.runDir, "netns"), options.host);
  await pins
    .releaseOthers(new Set(failed.map(({ target }) => target.containerId)))
    .catch((error: unknown) => log("warn", "network namespace not released", { error: messageOf(error) }));
  const begun = new AbortController();
  const due = new AbortController();
  const end = { begun: begun.signal, due: due.signal };
  const readiness = await openReadiness({
    confDir,
    binDirs,
    statusTimeoutMs: limits.statusMs,
    statusAgeMs: limits.statusAgeMs,
    log,
    end,
  });
  const turns = createTurns();
  const teardown = createTeardown({
    leases,
    pins,
    orphans: createOrphans(new Set(leases.all().map(({ target }) => target.containerId)), log),
    binDirs,
    budgetMs: limits.teardownMs,
    firstRetryMs: limits.firstRetryMs,
    longestRetryMs: limits.longestRetryMs,
    giveUpMs: limits.giveUpMs,
    inTurn: turns.take,
    log,
    end,
  });
  for (const { target } of failed) teardown.retryLater(target.containerId);
  const { host } = options;
  return new CniNetwork({
    ...{ confDir, binDirs, host, limits, log, leases, readiness, turns, teardown, begun, due },
    ...(lostFrom === undefined ? {} : { lostFrom }),
  });
}

interface Parts {
  readonly confDir: string;
  readonly binDirs: readonly string[];
  readonly host: NetworkHost;
  readonly limits: NetworkLimits;
  readonly log: Log;
  readonly leases: LeaseStore;
  readonly readiness: Readiness;
  readonly turns: Turns;
  readonly teardown: Teardown;
  /** Time from which empty lease files may be left over from a power cut, see `lostSince`. */
  readonly lostFrom?: number;
  /** Shutdown signals, see `End` in chain.ts. */
  readonly begun: AbortController;
  readonly due: AbortController;
}

class CniNetwork implements Network {
  readonly #parts: Parts;
  readonly #end: End;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#end = { begun: parts.begun.signal, due: parts.due.signal };
  }

  readiness(): NetworkReadiness {
    return this.#parts.readiness.verdict();
  }

  attach(pod: PodNetwork, signal: AbortSignal, netnsMade?: Promise<unknown>): Promise<Attachment> {
    return this.#parts.turns.take(pod.sandboxId, () => this.#attach(pod, signal, netnsMade));
  }

  async #attach(pod: PodNetwork, signal: AbortSignal, netnsMade?: Promise<unknown>): Promise<Attachment> {
    const { sandboxId } = pod;
    const { leases, teardown, binDirs, limits } = this.#parts;
    this.#end.begun.throwIfAborted();
    if (!isIdentifier(sandboxId)) throw cniErrors.badSandboxId({ sandboxId: JSON.stringify(sandboxId) });
    if (signal.aborted) throw cancellation(sandboxId, signal);
    const old = leases.get(sandboxId);
    if (old !== undefined) throw cniErrors.alreadyAttached({ sandboxId, state: old.state });

    const network = await this.#usableNetwork(pod);
    const target = targetOf(pod);
    await this.#detachEarlier(pod, target);
    if (signal.aborted) throw cancellation(sandboxId, signal);
    const lease = { network, target, owed: [...network.plugins.keys()] };
    const chain = { network, binDirs, pluginTimeoutMs: limits.pluginMs, end: this.#end };
    using begun = startChain(chain, target);
    const { flushed } = await leases.add({ ...lease, state: "attaching" });
    let started = -1;
    try {
      await netnsMade;
      if (signal.aborted) throw cancellation(sandboxId, signal);
      const result = await addChain(chain, target, begun, signal, (index) => {
        started = index;
      });
      const parsed = podAddresses(result, interfaceName);
      if (parsed.kind === "garbage")
        throw cniErrors.pluginBabbled({ plugin: lastType(network), command: "ADD", reason: parsed.reason });
      if (parsed.ips.length === 0) throw cniErrors.noAddress({ network: network.name, sandboxId, interfaceName });
      await flushed;
      await leases.addResult(sandboxId, result);
      return { ips: parsed.ips, interfaceName };
    } catch (error) {
      // On shutdown the next daemon tears the lease down.
      this.#end.begun.throwIfAborted();
      // Plugins that never ran need no DEL, so a missing plugin cannot block the rollback.
      await this.#forgetUnstarted(lease, started);
      await teardown.release(sandboxId);
      throw signal.aborted ? cancellation(sandboxId, signal) : error;
    }
  }

  async detach(sandboxId: string): Promise<void> {
    const { turns, teardown, leases } = this.#parts;
    await turns.take(sandboxId, () => teardown.release(sandboxId));
    // Never resolve if shutdown interrupts this: the caller's next step would remove what the next daemon's DEL needs.
    if (this.#end.begun.aborted && leases.get(sandboxId) !== undefined) await new Promise<never>(() => undefined);
  }

  async inspect(sandboxId: string): Promise<string | undefined> {
    const { leases, host } = this.#parts;
    const lease = leases.get(sandboxId);
    if (lease?.state !== "attached") return `its network lease is ${lease?.state ?? "missing"}`;
    const { netns } = lease.target;
    if (!isNamespace(netns)) return `its network namespace ${netns} no longer exists`;
    if (!claimsInterface(lease.result, interfaceName)) return undefined;
    const isThere = await host.hasInterface(netns, interfaceName).catch((error: unknown): false => {
      if (error instanceof KeelsonError && error.code === "NotFound") return false;
      throw error;
    });
    return isThere ? undefined : `${netns} no longer has an interface ${interfaceName}`;
  }

  leases(): ReturnType<Network["leases"]> {
    return this.#parts.leases.all().map((lease) => ({
      sandboxId: lease.target.containerId,
      state: lease.state,
      ...("lastError" in lease ? { lastError: lease.lastError } : {}),
    }));
  }

  async collectGarbage(livingSandboxIds: ReadonlySet<string>): Promise<void> {
    const dead = this.#parts.leases
      .all()
      .filter((lease) => !("lastError" in lease))
      .map(({ target }) => target.containerId)
      .filter((sandboxId) => !livingSandboxIds.has(sandboxId));
    const waiting = dead.values();
    const detachInTurn = async (): Promise<void> => {
      for (const sandboxId of waiting) await this.detach(sandboxId);
    };
    await Promise.all(Array.from({ length: detachedAtOnce }, detachInTurn));
    await this.#freeLostLeases();
    await this.#collectPluginGarbage();
  }

  info(): object {
    const { confDir, binDirs, readiness } = this.#parts;
    return { confDir, binDirs, ...describe(readiness.config()), readiness: this.readiness(), leases: this.leases() };
  }

  async close(): Promise<void> {
    const { readiness, turns, begun, due } = this.#parts;
    readiness.close();
    begun.abort(cniErrors.stopping({}));
    await isDoneWithin(turns.idle(), finishMs);
    due.abort(cniErrors.stopping({}));
    await isDoneWithin(turns.idle(), killedMs);
  }

  async #detachEarlier({ namespace, name }: PodNetwork, { args }: ChainTarget): Promise<void> {
    const { leases, teardown, turns } = this.#parts;
    const notDetached = () =>
      leases.all().filter((lease) => isFailedAdd(lease) && podKey(lease.target.args) === podKey(args));
    const before = notDetached();
    if (before.length < mostNotDetached) return;
    const ids = before.slice(0, mostNotDetached).map(({ target }) => target.containerId);
    await Promise.all(ids.map((id) => turns.take(id, () => teardown.release(id))));
    const left = notDetached();
    if (left.length < mostNotDetached) return;
    const reason = left.flatMap((lease) => ("lastError" in lease ? lease.lastError : []))[0] ?? "";
    throw cniErrors.earlierNotDetached({ namespace, name, count: left.length, reason });
  }

  /** The network as currently configured; throws when one of its plugins is missing. */
  async #usableNetwork(pod: PodNetwork) {
    const { readiness, binDirs } = this.#parts;
    // The file may have been created just now: it is missing only if a fresh read does not find it either.
    const seen = readiness.config();
    const config = seen.kind === "found" ? seen : await readiness.refresh();
    if (config.kind === "none")
      throw cniErrors.networkNotReady({ namespace: pod.namespace, name: pod.name, reason: config.reason });
    const { network } = config;
    const [missing] = missingPlugins({ network, binDirs });
    if (missing !== undefined)
      throw cniErrors.pluginMissing({ plugin: missing, network: network.name, directories: binDirs.join(", ") });
    return network;
  }

  async #forgetUnstarted(lease: Pick<Lease, "network" | "target" | "owed">, started: number): Promise<void> {
    const { leases, log } = this.#parts;
    try {
      await leases.save({ ...lease, owed: lease.owed.filter((index) => index <= started), state: "attaching" });
    } catch (error) {
      log("warn", "network lease not updated", { sandbox: lease.target.containerId, error: messageOf(error) });
    }
  }

  async #freeLostLeases(): Promise<void> {
    const { readiness, host, log, lostFrom } = this.#parts;
    const config = readiness.config();
    if (lostFrom === undefined || config.kind === "none") return;
    const freed = await freeLostLeases(config.network, host, lostFrom);
    if (freed.length > 0) log("warn", "freed addresses of empty leases that a power cut left behind", { freed });
  }

  /** Runs GC (spec 1.1.0) while no ADD or DEL is in progress, so that its list names every attachment. */
  async #collectPluginGarbage(): Promise<void> {
    const { readiness, leases, binDirs, limits, log, turns } = this.#parts;
    const config = readiness.config();
    if (config.kind === "none" || !collectsGarbage(config.network)) return;
    const { network } = config;
    const isDone = await turns.alone(async () => {
      const valid = leases
        .all()
        .filter((lease) => lease.network.name === network.name && !("lastError" in lease))
        .map(({ target }) => ({ containerID: target.containerId, ifname: target.interfaceName }));
      const chain = { network, binDirs, pluginTimeoutMs: limits.gcMs, end: this.#end };
      const failures = await gcChain(chain, valid);
      // The next daemon runs GC again when it starts.
      if (this.#end.begun.aborted) return;
      for (const error of failures) log("warn", "network plugin's GC failed", { error: messageOf(error) });
    }, limits.quietMs);
    if (!isDone) log("warn", "network GC postponed to the next start: no moment without an attach or detach", {});
  }
}

function isFailedAdd(lease: Lease): boolean {
  return lease.state === "detach-failed" && lease.result === undefined;
}

function targetOf(pod: PodNetwork): ChainTarget {
  return {
    containerId: pod.sandboxId,
    netns: pod.netns,
    interfaceName,
    args: cniArgs(pod),
    capabilities: podCapabilities(pod),
  };
}

function cancellation(sandboxId: string, signal: AbortSignal): KeelsonError {
  const { reason } = signal;
  return reason instanceof KeelsonError ? reason : cniErrors.cancelled({ command: "ADD", sandboxId }, reason);
}

function lastType(network: NetworkConfig): string {
  return network.plugins.at(-1)?.type ?? "";
}

function describe(config: LoadedConfig): object {
  if (config.kind === "none") return { config: null, reason: config.reason, rejected: config.rejected };
  const { name, cniVersion, plugins } = config.network;
  return {
    config: { path: config.path, name, cniVersion, plugins: plugins.map(({ type }) => type) },
    rejected: config.rejected,
  };
}
