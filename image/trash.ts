// The way out of the store: what nobody needs is first moved aside, so that it is gone at once, and then removed.
//
// What resists (a disk that turned read-only, a mount) is said once, and tried again with whatever goes next.

import { rename } from "node:fs/promises";
import { type Host, messageOf } from "../native/index.ts";
import type { Layout } from "./layout.ts";

export interface TrashOptions {
  readonly layout: Layout;
  readonly host: Host;
  /** Told what could not be moved or removed. */
  readonly onProblem: (sentence: string) => void;
}

export class Trash {
  readonly #options: TrashOptions;
  /** What was found at start. */
  readonly #found: string[] = [];
  /** What could not be removed yet: above all staging directories of finished work. */
  readonly #left = new Set<string>();
  /** What could not be moved away or removed, and was said to be so. */
  readonly #stuck = new Set<string>();

  constructor(options: TrashOptions) {
    this.#options = options;
  }

  /** Moves each aside; to where, for `remove`. What cannot be moved stays. */
  async moveAside(places: readonly string[]): Promise<readonly string[]> {
    const moved: string[] = [];
    for (const place of places) {
      const aside = this.#options.layout.trash();
      try {
        await rename(place, aside);
        moved.push(aside);
        this.#stuck.delete(place);
      } catch (error) {
        this.#resists(place, error);
      }
    }
    return moved;
  }

  /** Has `removeFound` remove these trees: there may be millions of files in them. */
  find(places: readonly string[]): void {
    this.#found.push(...places);
  }

  async removeFound(): Promise<void> {
    await this.remove(this.#found.splice(0));
  }

  /** Removes these trees, and what earlier calls could not. */
  async remove(places: readonly string[]): Promise<void> {
    const all = new Set([...this.#left, ...places]);
    this.#left.clear();
    for (const place of all) {
      try {
        await this.#options.host.removeTree(place);
        this.#stuck.delete(place);
      } catch (error) {
        this.#left.add(place);
        this.#resists(place, error);
      }
    }
  }

  #resists(place: string, error: unknown): void {
    if (this.#stuck.has(place)) return;
    this.#stuck.add(place);
    this.#options.onProblem(
      `${place}, which nobody needs, could not be removed; it is tried again. ${messageOf(error)}`,
    );
  }
}
