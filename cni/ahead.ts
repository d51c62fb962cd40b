// Plugins started before their turn, so that a process is up when its configuration is ready: a Go program takes
// milliseconds until it reads, and the plugin before it mostly waits for the kernel and for programs of its own.
//
// Only programs that do nothing before they have read their configuration to its end: the CNI project's own plugins, and
// Keelson's. Any other might look at a namespace that is not there yet, or hold a lock that the plugin before it needs.

import type { Program } from "../native/index.ts";
import { makerOf } from "./maker.ts";
import { type PluginStart, startPlugin } from "./plugin.ts";

/** For one command of one pod, by their files; disposed of, those that have had no turn are killed. */
export class PluginsAhead implements Disposable {
  readonly #waiting = new Map<string, Program>();

  start(start: PluginStart | undefined): void {
    if (start === undefined || this.#waiting.has(start.path) || makerOf(start.path) === undefined) return;
    this.#waiting.set(start.path, startPlugin(start));
  }

  /** It is the caller's from now on. */
  take(path: string): Program | undefined {
    const program = this.#waiting.get(path);
    this.#waiting.delete(path);
    return program;
  }

  [Symbol.dispose](): void {
    for (const program of this.#waiting.values()) program.kill();
    this.#waiting.clear();
  }
}
