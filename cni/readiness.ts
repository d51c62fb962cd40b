// Caches the network configuration of the directory, and whether pods can be created with it.

import { isDoneWithin, type Log, messageOf } from "../native/index.ts";
import { type Chain, type End, hasStatus, missingPlugins, statusOfChain } from "./chain.ts";
import { type LoadedConfig, loadConfig } from "./config.ts";
import type { NetworkReadiness } from "./types.ts";
import { watchDirectories } from "./watch.ts";

export interface ReadinessOptions {
  readonly confDir: string;
  readonly binDirs: readonly string[];
  /** Milliseconds that a plugin's STATUS may take. */
  readonly statusTimeoutMs: number;
  /** Age in milliseconds from which a STATUS answer is refreshed, when the readiness is queried. */
  readonly statusAgeMs: number;
  readonly log: Log;
  readonly end: End;
}

export interface Readiness {
  /** The configuration as last read. */
  config(): LoadedConfig;
  /** Answers from memory. If the last STATUS of a spec 1.1.0 network is old, it is refreshed in the background. */
  verdict(): NetworkReadiness;
  /** Reads everything again, now. */
  refresh(): Promise<LoadedConfig>;
  close(): void;
}

/** How long startup waits for the first check: a STATUS that hangs must not keep the daemon from serving. */
const firstLookMs = 500;

/** Reads the directory, then watches it, its networks' folders, and the plugin directories. */
export async function openReadiness(options: ReadinessOptions): Promise<Readiness> {
  const { confDir, binDirs, log } = options;
  const reason = `${confDir} has not been read yet`;
  let config: LoadedConfig = { kind: "none", reason, rejected: [], folders: [] };
  let verdict: NetworkReadiness = notReady("the network has not been checked yet");
  let judgedAt = Number.NEGATIVE_INFINITY;
  let running: Promise<void> | undefined;
  let again = false;
  let stopWatching: (() => void) | undefined;
  let watchedFolders: string | undefined;
  let closed = false;

  // A folder must be watched before its final read: a change in between would be missed otherwise.
  const load = async (): Promise<LoadedConfig> => {
    for (;;) {
      const loaded = await loadConfig(confDir);
      const folders = loaded.folders.join("\0");
      if (folders === watchedFolders || closed) return loaded;
      stopWatching?.();
      stopWatching = watchDirectories([confDir, ...loaded.folders, ...binDirs], () => void refresh());
      watchedFolders = folders;
    }
  };
  const look = async (): Promise<void> => {
    const loaded = await load();
    if (describe(loaded) !== describe(config)) report(loaded, log);
    config = loaded;
    const judged = await judge(loaded, options);
    if (describeVerdict(judged) !== describeVerdict(verdict)) reportVerdict(judged, log);
    verdict = judged;
    judgedAt = performance.now();
  };
  // One check at a time; a change during a check triggers another one after it.
  const refresh = (): Promise<void> => {
    again = true;
    running ??= (async () => {
      while (again) {
        again = false;
        await look();
      }
    })().finally(() => {
      running = undefined;
    });
    return running;
  };
  await isDoneWithin(refresh(), firstLookMs);
  return {
    config: () => config,
    verdict: () => {
      const isAsked = config.kind === "found" && hasStatus(config.network);
      if (isAsked && running === undefined && performance.now() - judgedAt > options.statusAgeMs) void refresh();
      return verdict;
    },
    refresh: async () => {
      await refresh();
      return config;
    },
    close: () => {
      closed = true;
      stopWatching?.();
    },
  };
}

async function judge(config: LoadedConfig, options: ReadinessOptions): Promise<NetworkReadiness> {
  if (config.kind === "none") return notReady(config.reason);
  const { network } = config;
  const { binDirs, statusTimeoutMs, end } = options;
  const chain: Chain = { network, binDirs, pluginTimeoutMs: statusTimeoutMs, end };
  const missing = missingPlugins(chain);
  if (missing.length > 0)
    return notReady(`${config.path} needs ${missing.join(", ")}, missing from ${options.binDirs.join(", ")}`);
  try {
    await statusOfChain(chain);
    return { ready: true };
  } catch (error) {
    return notReady(messageOf(error));
  }
}

/** The reason is the one that the kubelet and its users expect. */
function notReady(message: string): NetworkReadiness {
  return { ready: false, reason: "NetworkPluginNotReady", message };
}

function report(config: LoadedConfig, log: Log): void {
  for (const { path, reason } of config.rejected) log("warn", "network configuration skipped", { path, reason });
  if (config.kind === "none") log("warn", "no network configuration", { reason: config.reason });
  else log("info", "network configuration loaded", { path: config.path, network: config.network.name });
}

function reportVerdict(verdict: NetworkReadiness, log: Log): void {
  if (verdict.ready) log("info", "network ready", {});
  else log("warn", "network not ready", { reason: verdict.message });
}

function describe(config: LoadedConfig): string {
  return JSON.stringify(config);
}

function describeVerdict(verdict: NetworkReadiness): string {
  return JSON.stringify(verdict);
}
