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
  /** What could not be removed yet: above all staging directories of finished work. */
  readonly #left = new Set<string>();
  /** What could not be moved away, and was said to be so. */
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
        if (!this.#stuck.has(place)) this.#say(place, error);
        this.#stuck.add(place);
      }
    }
    return moved;
  }

  /** Removes these trees, and what earlier calls could not. */
  async remove(places: readonly string[]): Promise<void> {
    const before = new Set(this.#left);
    this.#left.clear();
    for (const place of [...before, ...places]) {
      await this.#options.host.removeTree(place).catch((error: unknown) => {
        if (!before.has(place)) this.#say(place, error);
        this.#left.add(place);
      });
    }
  }

  #say(place: string, error: unknown): void {
    this.#options.onProblem(
      `${place}, which nobody needs, could not be removed; it is tried again. ${messageOf(error)}`,
    );
  }
}
