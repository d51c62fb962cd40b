// Keeps the content of interrupted pulls for a while, so that a retry resumes from there.
//
// Bounds: the time (`keepMs`) and the number of pulls (`keptPulls`, the oldest is dropped first). Whoever needs room
// drops it earlier.

import { isErrno, KeelsonError, type StatusCode } from "../native/index.ts";
import type { Lease } from "./needs.ts";
import type { Digest } from "./types.ts";

const keptPulls = 8;
/** Failures that do not concern the content: of the network (RegistryUnavailable is Unknown), or by the caller. */
const transientCodes: ReadonlySet<StatusCode> = new Set(["Unknown", "Unavailable", "DeadlineExceeded", "Cancelled"]);

/** Whether a retry of the same pull may succeed. */
export function isWorthAnotherPull(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted || (error instanceof KeelsonError && transientCodes.has(error.code));
}

/** Whether a pull failed because the disk is full. */
export function isOutOfRoom(error: unknown): boolean {
  return isErrno(error, "ENOSPC", "EDQUOT") || (error instanceof KeelsonError && error.name === "noRoomForLayer");
}

export class UnfinishedPulls {
  readonly #keepMs: number;
  readonly #onOver: () => void;
  /** By manifest, the oldest first. */
  readonly #kept = new Map<Digest, { readonly leases: readonly Lease[]; readonly timer: NodeJS.Timeout }>();

  /** Nothing is kept when `keepMs` is 0. `onOver` is called when an entry expires or is evicted by a newer one. */
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

  /** Releases the leases of an interrupted pull; removes nothing itself. */
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
