// The heads of blobs: the bytes that arrived before a fetch broke off, from which the next fetch resumes. Heads are not
// verified, only complete blobs are.

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

  /** The caller then owns the head and must keep or remove it. */
  take(digest: Digest): BlobHead | undefined {
    const head = this.#kept.get(digest);
    this.#kept.delete(digest);
    return head;
  }

  /** Keeps the partial `blob`, or the head it started from if that is no shorter. A head that is already kept stays. */
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

  /** Removes a head that was taken, unless it was kept again. */
  async remove(digest: Digest, head: BlobHead | undefined): Promise<void> {
    if (head !== undefined && this.#kept.get(digest) !== head) await this.#trash.remove([head.path]);
  }

  /** Keeps only heads whose blobs are needed; returns the paths of the others. */
  leave(isNeeded: (digest: Digest) => boolean): readonly string[] {
    const left = [...this.#kept].filter(([digest]) => !isNeeded(digest));
    for (const [digest] of left) this.#kept.delete(digest);
    return left.map(([, head]) => head.path);
  }
}
