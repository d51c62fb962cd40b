// Starts plugins before their turn, so that the process is running when its configuration is ready: a Go program takes
// milliseconds until it reads, and the plugin before it mostly waits for the kernel and for programs it runs.
//
// Only plugins that do nothing before they have read their whole configuration: the reference CNI plugins and
// Keelson's. Any other plugin might access a namespace that does not exist yet, or hold a lock that the plugin before
// it needs.

import type { Program } from "../native/index.ts";
import { makerOf } from "./maker.ts";
import { type PluginStart, startPlugin } from "./plugin.ts";

/** The processes for one command of one pod, by path; disposing kills those whose turn has not come. */
export class PluginsAhead implements Disposable {
  readonly #waiting = new Map<string, Program>();

  start(start: PluginStart | undefined): void {
    if (start === undefined || this.#waiting.has(start.path) || makerOf(start.path) === undefined) return;
    this.#waiting.set(start.path, startPlugin(start));
  }

  /** Passes ownership of the process to the caller. */
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
