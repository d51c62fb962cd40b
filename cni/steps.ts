// Groups a network's plugins into steps, one process each: a single plugin, or several consecutive plugins of Keelson,
// which one program runs as its plugin keelson-chain (native/cni/plugins/chain.h). Starting a process costs more than
// most plugins do.

import { dirname, join } from "node:path";
import type { PluginConfig } from "./config.ts";
import { makerOf } from "./maker.ts";
import { findPlugin } from "./plugin.ts";

export interface PlacedPlugin {
  /** Position in the network's list of plugins. */
  readonly index: number;
  readonly plugin: PluginConfig;
}

export interface Step {
  /** One or more plugins, in the network's order. */
  readonly plugins: readonly PlacedPlugin[];
  /** Undefined for a plugin that is not in any plugin directory. */
  readonly path: string | undefined;
}

export const chainType = "keelson-chain";

/** The steps for these plugins, in the same order. */
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

/** The steps for these plugins with a separate process for each. */
export function singly(plugins: readonly PlacedPlugin[], binDirs: readonly string[]): Step[] {
  return plugins.map((placed) => ({ plugins: [placed], path: findPlugin(placed.plugin.type, binDirs) }));
}

/** For example "bridge+portmap". */
export function nameOf({ plugins }: Step): string {
  return plugins.map(({ plugin }) => plugin.type).join("+");
}

/** Path of keelson-chain, if it and the plugin at `path` next to it are both Keelson's. */
function chainOf(path: string): string | undefined {
  const chain = join(dirname(path), chainType);
  return makerOf(path) === "keelson" && makerOf(chain) === "keelson" ? chain : undefined;
}
