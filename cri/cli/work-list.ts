// The list of work in progress, for an operator who wants to know what the daemon is doing (SIGUSR1, keelson status).

import { type Log, type Work, watchWork } from "../../native/index.ts";

/** Maximum number of lines; the oldest work is listed first, since stuck work is old. */
const maxLines = 200;
const maxText = 300;

export class WorkList {
  /** In start order; bounded by the limits on calls, pods and plugins. */
  readonly #works = new Set<Work>();

  constructor() {
    watchWork(
      (work) => this.#works.add(work),
      (work) => this.#works.delete(work),
    );
  }

  get total(): number {
    return this.#works.size;
  }

  /** Oldest first, but sessions last: an old session is not unusual. */
  list(): { readonly kind: Work["kind"]; readonly what: string; readonly milliseconds: number }[] {
    const now = performance.now();
    const works = [...this.#works].sort((a, b) => Number(a.kind === "session") - Number(b.kind === "session"));
    return works.slice(0, maxLines).map(({ kind, since, describe }) => {
      const what = describe();
      return {
        kind,
        // Truncation may split a UTF-16 surrogate pair.
        what: (what.length > maxText ? `${what.slice(0, maxText)}…` : what).toWellFormed(),
        milliseconds: now - since,
      };
    });
  }

  /** Logs a line for each, then one with totals. */
  dump(log: Log): void {
    for (const { kind, what, milliseconds } of this.list())
      log("info", "in progress", { kind, what, seconds: Math.round(milliseconds) / 1000 });
    const { rss, heapUsed, external } = process.memoryUsage();
    log("info", "work in progress", {
      total: this.#works.size,
      listed: Math.min(this.#works.size, maxLines),
      ...this.#counts(),
      upSeconds: Math.round(process.uptime()),
      rss,
      heapUsed,
      external,
    });
  }

  #counts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { kind } of this.#works) counts[kind] = (counts[kind] ?? 0) + 1;
    return counts;
  }
}
