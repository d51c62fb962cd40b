// What one process runs of a network: a plugin; or several, where Keelson's own follow each other, whose program does them
// all as its plugin keelson-chain (native/cni/plugins/chain.h). A process costs more than most of them do.

import { dirname, join } from "node:path";
import type { PluginConfig } from "./config.ts";
import { makerOf } from "./maker.ts";
import { findPlugin } from "./plugin.ts";

export interface PlacedPlugin {
  /** In the network. */
  readonly index: number;
  readonly plugin: PluginConfig;
}

export interface Step {
  /** One or more, in the network's order. */
  readonly plugins: readonly PlacedPlugin[];
  /** Undefined for a plugin that is nowhere to be found. */
  readonly path: string | undefined;
}

export const chainType = "keelson-chain";

/** In the order of the plugins. */
export function stepsOf(plugins: readonly PlacedPlugin[], binDirs: readonly string[]): Step[] {
  const steps: { plugins: PlacedPlugin[]; path: string | undefined; chain: string | undefined }[] = [];
  for (const placed of plugins) {
    const path = findPlugin(placed.plugin.type, binDirs);
    const chain = path === undefined ? undefined : chainOf(path);
    const last = steps.at(-1);
    if (chain !== undefined && last?.chain === chain) last.plugins.push(placed);
    else steps.push({ plugins: [placed], path, chain });
  }
  return steps.map(({ plugins, path, chain }) => ({ plugins, path: plugins.length > 1 ? chain : path }));
}

/** The same plugins, each in a process of its own. */
export function singly(plugins: readonly PlacedPlugin[], binDirs: readonly string[]): Step[] {
  return plugins.map((placed) => ({ plugins: [placed], path: findPlugin(placed.plugin.type, binDirs) }));
}

/** "bridge+portmap" */
export function nameOf({ plugins }: Step): string {
  return plugins.map(({ plugin }) => plugin.type).join("+");
}

/** Keelson's program for several, beside one of Keelson's. */
function chainOf(path: string): string | undefined {
  const chain = join(dirname(path), chainType);
  return makerOf(path) === "keelson" && makerOf(chain) === "keelson" ? chain : undefined;
}
