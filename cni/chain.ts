// Runs a network's plugins in order: what each gets on stdin, and how its result is passed to the next.
//
// CNI spec 1.1.0, section 3, "Execution of Network Configurations".

import { type JsonObject, without } from "../native/index.ts";
import { PluginsAhead } from "./ahead.ts";
import type { CniVersion, NetworkConfig, PluginConfig } from "./config.ts";
import { cniErrors } from "./errors.ts";
import { type CniCommand, findPlugin, PluginFailure, type PluginStart, runPlugin } from "./plugin.ts";
import { parseResult } from "./result.ts";
import { runtimeConfigOf } from "./runtime-config.ts";
import { chainType, nameOf, type PlacedPlugin, type Step, singly, stepsOf } from "./steps.ts";

/** The parameters of one pod, common to every call of its network's plugins. */
export interface ChainTarget {
  readonly containerId: string;
  /** Path of the namespace, or empty when it no longer exists. */
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
  /** Signals of the daemon's shutdown. */
  readonly end: End;
}

export interface End {
  /** Aborts first: from then on no plugin is started. */
  readonly begun: AbortSignal;
  /** Aborts when the grace period of running plugins is over: they are killed. */
  readonly due: AbortSignal;
}

/** The types of the chain's plugins that are not in any plugin directory. */
export function missingPlugins({ network, binDirs }: Pick<Chain, "network" | "binDirs">): readonly string[] {
  const types = new Set(network.plugins.map(({ type }) => type));
  return [...types].filter((type) => findPlugin(type, binDirs) === undefined);
}

/** An ADD in progress, for `addChain`; disposing of it kills the processes whose turn has not come. */
export interface StartedChain extends Disposable {
  readonly steps: readonly Step[];
  readonly ahead: PluginsAhead;
}

/** Starts the first plugin's process; the namespace need not exist yet. */
export function startChain({ network, binDirs }: Chain, target: ChainTarget): StartedChain {
  const steps = stepsOf(placed(network), binDirs);
  const ahead = new PluginsAhead();
  ahead.start(startOf(steps[0], binDirs, "ADD", targetParameters(target)));
  return { steps, ahead, [Symbol.dispose]: () => ahead[Symbol.dispose]() };
}

/**
 * Runs ADD through the chain, passing each plugin's result to the next; resolves with the last result.
 * `started` gets the index of each plugin before the plugin gets its configuration: from then on a DEL is owed to it.
 */
export async function addChain(
  chain: Chain,
  target: ChainTarget,
  { steps, ahead }: StartedChain,
  signal: AbortSignal,
  started: (index: number) => void,
): Promise<JsonObject> {
  const { network, binDirs } = chain;
  const parameters = targetParameters(target);
  let previous: JsonObject | undefined;
  for (const [position, step] of steps.entries()) {
    for (const { index } of step.plugins) started(index);
    const config = withPrevious(configOf(network, step, target.capabilities), previous);
    const running = run(chain, step, "ADD", parameters, config, { signal, ahead });
    ahead.start(startOf(steps[position + 1], binDirs, "ADD", parameters));
    const output = await running;
    const parsed = parseResult(output, network.cniVersion);
    if (parsed.kind === "garbage")
      throw cniErrors.pluginBabbled({ plugin: nameOf(step), command: "ADD", reason: parsed.reason });
    previous = parsed.result;
  }
  return previous ?? {};
}

export interface DelFailure {
  readonly index: number;
  readonly error: unknown;
}

/**
 * Runs DEL in reverse order for the plugins with these indices. Each is tried, even if others fail;
 * resolves with the failures. `budgetMs` covers all of them together.
 */
export async function delChain(
  chain: Chain,
  target: ChainTarget,
  indices: readonly number[],
  result: JsonObject | undefined,
  budgetMs: number,
): Promise<readonly DelFailure[]> {
  const { network, binDirs } = chain;
  const parameters = targetParameters(target);
  const until = performance.now() + budgetMs;
  const failures: DelFailure[] = [];
  using ahead = new PluginsAhead();
  const owed = placed(network).filter(({ index }) => indices.includes(index));
  const waiting = stepsOf(owed, binDirs).reverse();
  for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
    // An equal share of the time left: a plugin that hangs must not use up the others' time.
    const turns = [step, ...waiting].reduce((sum, one) => sum + turnsOf(one), 0);
    const timeoutMs = Math.max(1, Math.ceil((until - performance.now()) / turns));
    const config = configOf(network, step, target.capabilities);
    const previous = atLeast(network.cniVersion, "0.4.0") ? result : undefined;
    try {
      const running = run(chain, step, "DEL", parameters, withPrevious(config, previous), { timeoutMs, ahead });
      ahead.start(startOf(waiting[0], binDirs, "DEL", parameters));
      await running;
    } catch (error) {
      if (step.plugins.length > 1) waiting.unshift(...singly(step.plugins, binDirs).reverse());
      else if (!nothingToClean(error)) failures.push(...step.plugins.map(({ index }) => ({ index, error })));
    }
  }
  return failures;
}

/** A step with several plugins may take one turn for all and, if that fails, one more for each plugin alone. */
function turnsOf({ plugins }: Step): number {
  return plugins.length === 1 ? 1 : 1 + plugins.length;
}

/** Whether the network's plugins support STATUS. */
export function hasStatus({ cniVersion }: NetworkConfig): boolean {
  return atLeast(cniVersion, "1.1.0");
}

/** Runs STATUS in order; rejects with the first failure. A network whose version lacks STATUS is ready. */
export async function statusOfChain(chain: Chain): Promise<void> {
  const { network } = chain;
  if (!hasStatus(network)) return;
  for (const step of each(chain)) await run(chain, step, "STATUS", {}, configOf(network, step, {}));
}

/** Whether the network's plugins support GC and the administrator has not disabled it. */
export function collectsGarbage(network: NetworkConfig): boolean {
  return atLeast(network.cniVersion, "1.1.0") && !network.disableGc;
}

/** Runs GC for every plugin, even if others fail; resolves with the failures. */
export async function gcChain(
  chain: Chain,
  valid: readonly { readonly containerID: string; readonly ifname: string }[],
): Promise<readonly unknown[]> {
  const failures: unknown[] = [];
  for (const step of each(chain)) {
    const config = {
      ...configOf(chain.network, step, {}),
      "cni.dev/valid-attachments": valid,
      // The key in specification 1.1.0 until July 2024: a plugin that reads it would otherwise see no valid attachment.
      "cni.dev/attachments": valid,
    };
    try {
      await run(chain, step, "GC", {}, config);
    } catch (error) {
      failures.push(error);
    }
  }
  return failures;
}

function placed({ plugins }: NetworkConfig): PlacedPlugin[] {
  return plugins.map((plugin, index) => ({ index, plugin }));
}

/** Rare commands run one plugin per process, so that an error belongs to one plugin. */
function each({ network, binDirs }: Chain): Step[] {
  return singly(placed(network), binDirs);
}

interface RunOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly ahead?: PluginsAhead;
}

async function run(
  chain: Chain,
  step: Step,
  command: CniCommand,
  parameters: Readonly<Record<string, string>>,
  config: JsonObject,
  { timeoutMs = chain.pluginTimeoutMs * step.plugins.length, signal, ahead }: RunOptions = {},
): Promise<string> {
  const { network, binDirs, end } = chain;
  const start = startOf(step, binDirs, command, parameters);
  end.begun.throwIfAborted();
  if (start === undefined)
    throw cniErrors.pluginMissing({ plugin: nameOf(step), network: network.name, directories: binDirs.join(", ") });
  return runPlugin({
    ...start,
    config,
    program: ahead?.take(start.path),
    timeoutMs,
    signal: signal === undefined ? end.due : AbortSignal.any([signal, end.due]),
  });
}

/** Undefined after the last step, and for a plugin that is not in any plugin directory. */
function startOf(
  step: Step | undefined,
  binDirs: readonly string[],
  command: CniCommand,
  parameters: Readonly<Record<string, string>>,
): PluginStart | undefined {
  if (step?.path === undefined) return undefined;
  return { command, plugin: nameOf(step), path: step.path, parameters: { ...parameters, CNI_PATH: binDirs.join(":") } };
}

function targetParameters(target: ChainTarget): Record<string, string> {
  return {
    CNI_CONTAINERID: target.containerId,
    CNI_NETNS: target.netns,
    CNI_IFNAME: target.interfaceName,
    CNI_ARGS: target.args,
  };
}

function configOf(network: NetworkConfig, { plugins }: Step, capabilities: JsonObject): JsonObject {
  const [config = {}, ...others] = plugins.map(({ plugin }) => configFor(network, plugin, capabilities));
  if (others.length === 0) return config;
  return { cniVersion: network.cniVersion, name: network.name, type: chainType, plugins: [config, ...others] };
}

function withPrevious(config: JsonObject, prevResult: JsonObject | undefined): JsonObject {
  return prevResult === undefined ? config : { ...config, prevResult };
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
  // Each part of a version is one digit, so they compare as text.
  return version >= floor;
}

/** Spec section 5, code 3: the container is unknown, no cleanup is needed. */
function nothingToClean(error: unknown): boolean {
  return error instanceof Error && error.cause instanceof PluginFailure && error.cause.pluginCode === 3;
}
