// Runs a network's plugins in order: what each gets on stdin, and how one's result reaches the next.
//
// CNI spec 1.1.0, section 3, "Execution of Network Configurations".

import { type JsonObject, type Program, without } from "../native/index.ts";
import { PluginsAhead } from "./ahead.ts";
import type { CniVersion, NetworkConfig, PluginConfig } from "./config.ts";
import { cniErrors } from "./errors.ts";
import { type CniCommand, findPlugin, PluginFailure, type PluginStart, runPlugin } from "./plugin.ts";
import { parseResult } from "./result.ts";
import { runtimeConfigOf } from "./runtime-config.ts";

/** One pod's side of every call of its network. */
export interface ChainTarget {
  readonly containerId: string;
  /** Path of the namespace, or empty when it is gone. */
  readonly netns: string;
  readonly interfaceName: string;
  readonly args: string;
  readonly capabilities: JsonObject;
}

export interface Chain {
  readonly network: NetworkConfig;
  readonly binDirs: readonly string[];
  /** Milliseconds that one plugin may take. */
  readonly pluginTimeoutMs: number;
  /** Of the daemon's end. */
  readonly end: End;
}

export interface End {
  /** Aborts first: no plugin is started any more. */
  readonly begun: AbortSignal;
  /** Aborts when those that run have had their time: they are killed. */
  readonly due: AbortSignal;
}

/** The types of the chain's plugins that are nowhere to be found. */
export function missingPlugins({ network, binDirs }: Pick<Chain, "network" | "binDirs">): readonly string[] {
  const types = new Set(network.plugins.map(({ type }) => type));
  return [...types].filter((type) => findPlugin(type, binDirs) === undefined);
}

/** The first plugin's process, for `addChain`: the namespace need not be there yet. */
export function startChain(chain: Chain, target: ChainTarget): PluginsAhead {
  const ahead = new PluginsAhead();
  ahead.start(0, startOf(chain, chain.network.plugins[0], "ADD", targetParameters(target)));
  return ahead;
}

/**
 * ADD through the chain, each plugin's result handed to the next; resolves with the last one's.
 * `started` is told the index of each plugin before it gets its configuration: from then on it is owed a DEL.
 */
export async function addChain(
  chain: Chain,
  target: ChainTarget,
  ahead: PluginsAhead,
  signal: AbortSignal,
  started: (index: number) => void,
): Promise<JsonObject> {
  const { network } = chain;
  const parameters = targetParameters(target);
  let previous: JsonObject | undefined;
  for (const [index, plugin] of network.plugins.entries()) {
    started(index);
    const config = {
      ...configFor(network, plugin, target.capabilities),
      ...(previous === undefined ? {} : { prevResult: previous }),
    };
    const running = run(chain, plugin, "ADD", parameters, config, { signal, waiting: () => ahead.take(index) });
    ahead.start(index + 1, startOf(chain, network.plugins[index + 1], "ADD", parameters));
    const output = await running;
    const parsed = parseResult(output, network.cniVersion);
    if (parsed.kind === "garbage")
      throw cniErrors.pluginBabbled({ plugin: plugin.type, command: "ADD", reason: parsed.reason });
    previous = parsed.result;
  }
  return previous ?? {};
}

export interface DelFailure {
  readonly index: number;
  readonly error: unknown;
}

/**
 * DEL in reverse order for the plugins of these indices. Each is tried, whatever became of the
 * others; resolves with those that failed. `budgetMs` is for all of them together.
 */
export async function delChain(
  chain: Chain,
  target: ChainTarget,
  indices: readonly number[],
  result: JsonObject | undefined,
  budgetMs: number,
): Promise<readonly DelFailure[]> {
  const { network } = chain;
  const parameters = targetParameters(target);
  const until = performance.now() + budgetMs;
  const failures: DelFailure[] = [];
  using ahead = new PluginsAhead();
  const owed = [...network.plugins.entries()].filter(([index]) => indices.includes(index)).reverse();
  for (const [position, [index, plugin]] of owed.entries()) {
    // An equal share of what is left: one that hangs must not cost the others their turn.
    const timeoutMs = Math.max(1, Math.ceil((until - performance.now()) / (owed.length - position)));
    const config = {
      ...configFor(network, plugin, target.capabilities),
      ...(result !== undefined && atLeast(network.cniVersion, "0.4.0") ? { prevResult: result } : {}),
    };
    try {
      const running = run(chain, plugin, "DEL", parameters, config, { timeoutMs, waiting: () => ahead.take(position) });
      ahead.start(position + 1, startOf(chain, owed[position + 1]?.[1], "DEL", parameters));
      await running;
    } catch (error) {
      if (!nothingToClean(error)) failures.push({ index, error });
    }
  }
  return failures;
}

/** CHECK in order against the result of ADD; rejects with the first failure. Nothing where the network forbids it. */
export async function checkChain(chain: Chain, target: ChainTarget, result: JsonObject): Promise<void> {
  const { network } = chain;
  if (network.disableCheck || !atLeast(network.cniVersion, "0.4.0")) return;
  for (const plugin of network.plugins)
    await run(chain, plugin, "CHECK", targetParameters(target), {
      ...configFor(network, plugin, target.capabilities),
      prevResult: result,
    });
}

/** STATUS in order; rejects with the first failure. Older versions than 1.1.0 have no such command: ready. */
export async function statusOfChain(chain: Chain): Promise<void> {
  const { network } = chain;
  if (!atLeast(network.cniVersion, "1.1.0")) return;
  for (const plugin of network.plugins) await run(chain, plugin, "STATUS", {}, configFor(network, plugin, {}));
}

/** Whether the network's plugins understand GC and the administrator lets them. */
export function collectsGarbage(network: NetworkConfig): boolean {
  return atLeast(network.cniVersion, "1.1.0") && !network.disableGc;
}

/** GC: every plugin is tried; resolves with the failures. */
export async function gcChain(
  chain: Chain,
  valid: readonly { readonly containerID: string; readonly ifname: string }[],
): Promise<readonly unknown[]> {
  const failures: unknown[] = [];
  for (const plugin of chain.network.plugins) {
    const config = { ...configFor(chain.network, plugin, {}), "cni.dev/valid-attachments": valid };
    try {
      await run(chain, plugin, "GC", {}, config);
    } catch (error) {
      failures.push(error);
    }
  }
  return failures;
}

async function run(
  chain: Chain,
  plugin: PluginConfig,
  command: CniCommand,
  parameters: Readonly<Record<string, string>>,
  config: JsonObject,
  {
    timeoutMs = chain.pluginTimeoutMs,
    signal,
    waiting,
  }: { readonly timeoutMs?: number; readonly signal?: AbortSignal; readonly waiting?: () => Program | undefined } = {},
): Promise<string> {
  const start = startOf(chain, plugin, command, parameters);
  chain.end.begun.throwIfAborted();
  if (start === undefined)
    throw cniErrors.pluginMissing({
      plugin: plugin.type,
      network: chain.network.name,
      directories: chain.binDirs.join(", "),
    });
  return runPlugin({
    ...start,
    config,
    program: waiting?.(),
    timeoutMs,
    signal: signal === undefined ? chain.end.due : AbortSignal.any([signal, chain.end.due]),
  });
}

/** Undefined for a plugin that is nowhere to be found. */
function startOf(
  { binDirs }: Chain,
  plugin: PluginConfig | undefined,
  command: CniCommand,
  parameters: Readonly<Record<string, string>>,
): PluginStart | undefined {
  if (plugin === undefined) return undefined;
  const path = findPlugin(plugin.type, binDirs);
  if (path === undefined) return undefined;
  return { command, plugin: plugin.type, path, parameters: { ...parameters, CNI_PATH: binDirs.join(":") } };
}

function targetParameters(target: ChainTarget): Record<string, string> {
  return {
    CNI_CONTAINERID: target.containerId,
    CNI_NETNS: target.netns,
    CNI_IFNAME: target.interfaceName,
    CNI_ARGS: target.args,
  };
}

/** Spec section 3, "Deriving request configuration from plugin configuration". */
function configFor(network: NetworkConfig, plugin: PluginConfig, capabilities: JsonObject): JsonObject {
  const runtimeConfig = runtimeConfigOf(plugin.config, capabilities);
  return {
    ...without(plugin.config, "capabilities"),
    name: network.name,
    cniVersion: network.cniVersion,
    ...(Object.keys(runtimeConfig).length > 0 ? { runtimeConfig } : {}),
  };
}

function atLeast(version: CniVersion, floor: CniVersion): boolean {
  // One digit in each place: they compare as text.
  return version >= floor;
}

/** Spec section 5, code 3: the container is unknown, no cleanup is needed. */
function nothingToClean(error: unknown): boolean {
  return error instanceof Error && error.cause instanceof PluginFailure && error.cause.pluginCode === 3;
}
