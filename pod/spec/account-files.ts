// A cache of images' account files: images never change, and reading a file from several layers requires mounting them.
// Kept for a limited number of images, and only for files of ordinary size.

import type { Host, LayerFile } from "../../native/index.ts";
import type { ReadAccounts } from "./accounts.ts";

const imagesKept = 64;
const bytesKept = 16 << 10;

export class AccountFiles {
  readonly #host: Pick<Host, "readFromLayers">;
  /** By image and paths, in LRU order: the most recently used entry is last. */
  readonly #kept = new Map<string, readonly LayerFile[]>();

  constructor(host: Pick<Host, "readFromLayers">) {
    this.#host = host;
  }

  of({ id, layers }: { readonly id: string; readonly layers: readonly string[] }): ReadAccounts {
    return async (paths, limitBytes) => {
      const key = [id, ...paths].join("\0");
      const known = this.#kept.get(key);
      const files = known ?? (await this.#host.readFromLayers(layers, paths, limitBytes));
      this.#kept.delete(key);
      if (files.every((file) => file.kind === "missing" || (file.kind === "file" && file.content.length <= bytesKept)))
        this.#kept.set(key, files);
      for (const oldest of this.#kept.keys()) {
        if (this.#kept.size <= imagesKept) break;
        this.#kept.delete(oldest);
      }
      return files;
    };
  }
}
