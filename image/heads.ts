// The heads of blobs: what came before a fetch broke off, for the next one to go on from. Not checked: the whole is.

import { rename, stat } from "node:fs/promises";
import type { Layout } from "./layout.ts";
import type { Descriptor } from "./manifest.ts";
import type { Trash } from "./trash.ts";
import type { Digest } from "./types.ts";

export interface BlobHead {
  readonly path: string;
  readonly size: number;
}

export class BlobHeads {
  readonly #layout: Layout;
  readonly #trash: Trash;
  readonly #kept = new Map<Digest, BlobHead>();

  constructor(layout: Layout, trash: Trash) {
    this.#layout = layout;
    this.#trash = trash;
  }

  /** Who takes it keeps or removes it. */
  take(digest: Digest): BlobHead | undefined {
    const head = this.#kept.get(digest);
    this.#kept.delete(digest);
    return head;
  }

  /** Keeps what has come, `blob`, or the head that it began with, if that is no shorter. One that is kept already stays. */
  async keep({ digest, size: whole }: Descriptor, blob: string, before: BlobHead | undefined): Promise<void> {
    const size = await stat(blob).then(
      (found) => found.size,
      () => 0,
    );
    if (this.#kept.has(digest)) return;
    if (before !== undefined && before.size >= size) {
      this.#kept.set(digest, before);
    } else if (size > 0 && size <= whole) {
      const head = { path: this.#layout.head(), size };
      await rename(blob, head.path);
      this.#kept.set(digest, head);
    }
  }

  /** Removes one that was taken, unless it is kept again. */
  async remove(digest: Digest, head: BlobHead | undefined): Promise<void> {
    if (head !== undefined && this.#kept.get(digest) !== head) await this.#trash.remove([head.path]);
  }

  /** Keeps those alone whose blobs are needed; where the others are. */
  leave(isNeeded: (digest: Digest) => boolean): readonly string[] {
    const left = [...this.#kept].filter(([digest]) => !isNeeded(digest));
    for (const [digest] of left) this.#kept.delete(digest);
    return left.map(([, head]) => head.path);
  }
}
