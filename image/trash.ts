// Removes content from the store: it is first moved aside, so that it disappears at once, and then deleted.
//
// Content that cannot be removed (a disk that turned read-only, a mount) is reported once, and retried with every later
// removal.

import { rename } from "node:fs/promises";
import { type Host, messageOf } from "../native/index.ts";
import type { Layout } from "./layout.ts";

export interface TrashOptions {
  readonly layout: Layout;
  readonly host: Host;
  /** Called with what could not be moved or removed. */
  readonly onProblem: (sentence: string) => void;
}

export class Trash {
  readonly #options: TrashOptions;
  /** Leftovers found at start, which `removeDeferred` removes. */
  readonly #deferred: string[] = [];
  /** Paths that could not be removed yet: mainly staging directories of finished work. */
  readonly #left = new Set<string>();
  /** Paths that could not be moved or removed, and were reported. */
  readonly #stuck = new Set<string>();

  constructor(options: TrashOptions) {
    this.#options = options;
  }

  /** Moves each path aside and returns the new paths, for `remove`. A path that cannot be moved stays. */
  async moveAside(places: readonly string[]): Promise<readonly string[]> {
    const moved: string[] = [];
    for (const place of places) {
      const aside = this.#options.layout.trash();
      try {
        await rename(place, aside);
        moved.push(aside);
        this.#stuck.delete(place);
      } catch (error) {
        this.#reportStuck(place, error);
      }
    }
    return moved;
  }

  /** Queues these trees for `removeDeferred`: they may contain millions of files. */
  defer(places: readonly string[]): void {
    this.#deferred.push(...places);
  }

  async removeDeferred(): Promise<void> {
    await this.remove(this.#deferred.splice(0));
  }

  /** Removes these trees, and those that earlier calls could not remove. */
  async remove(places: readonly string[]): Promise<void> {
    const all = new Set([...this.#left, ...places]);
    this.#left.clear();
    for (const place of all) {
      try {
        await this.#options.host.removeTree(place);
        this.#stuck.delete(place);
      } catch (error) {
        this.#left.add(place);
        this.#reportStuck(place, error);
      }
    }
  }

  #reportStuck(place: string, error: unknown): void {
    if (this.#stuck.has(place)) return;
    this.#stuck.add(place);
    this.#options.onProblem(
      `${place}, which is no longer needed, could not be removed; removal is retried. ${messageOf(error)}`,
    );
  }
}
