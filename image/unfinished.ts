// What pulls that broke off had brought already, kept for a while: the caller's next try goes on from there.
//
// Bounds: how long (`keepMs`) and for how many pulls (`keptPulls`, the oldest goes first). Whoever wants room ends it.

import { isErrno, KeelsonError, type StatusCode } from "../native/index.ts";
import type { Lease } from "./needs.ts";
import type { Digest } from "./types.ts";

const keptPulls = 8;
/** Ends that say nothing against the content: the network's (RegistryUnavailable is Unknown), or the caller's. */
const passing: ReadonlySet<StatusCode> = new Set(["Unknown", "Unavailable", "DeadlineExceeded", "Cancelled"]);

/** Whether the same pull may end well when it is asked for again. */
export function isWorthAnotherPull(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted || (error instanceof KeelsonError && passing.has(error.code));
}

/** Whether a pull ended for there was no room on the disk. */
export function isOutOfRoom(error: unknown): boolean {
  return isErrno(error, "ENOSPC", "EDQUOT") || (error instanceof KeelsonError && error.name === "noRoomForLayer");
}

export class UnfinishedPulls {
  readonly #keepMs: number;
  readonly #onOver: () => void;
  /** By manifest, the oldest first. */
  readonly #kept = new Map<Digest, { readonly leases: readonly Lease[]; readonly timer: NodeJS.Timeout }>();

  /** Nothing is kept when `keepMs` is 0. `onOver` is called when something is kept no longer for its time is over. */
  constructor(keepMs: number, onOver: () => void) {
    this.#keepMs = keepMs;
    this.#onOver = onOver;
  }

  keep(manifest: Digest, leases: readonly Lease[]): void {
    this.drop(manifest);
    if (this.#keepMs === 0) {
      release(leases);
      return;
    }
    const [oldest] = this.#kept.keys();
    if (oldest !== undefined && this.#kept.size >= keptPulls) this.#end(oldest);
    const timer = setTimeout(() => this.#end(manifest), this.#keepMs).unref();
    this.#kept.set(manifest, { leases, timer });
  }

  /** Its content is kept no longer for its own sake; nothing is removed by this. */
  drop(manifest: Digest): void {
    const kept = this.#kept.get(manifest);
    if (kept === undefined) return;
    clearTimeout(kept.timer);
    release(kept.leases);
    this.#kept.delete(manifest);
  }

  dropAll(): void {
    for (const manifest of [...this.#kept.keys()]) this.drop(manifest);
  }

  #end(manifest: Digest): void {
    this.drop(manifest);
    this.#onOver();
  }
}

function release(leases: readonly Lease[]): void {
  for (const lease of leases) lease.release();
}
