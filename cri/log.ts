// The daemon's log: one JSON object a line on stderr.

import type { Log, LogLevel } from "../native/index.ts";

const severity: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

/** A log whose threshold can be moved while it is in use. */
export type LeveledLog = Log & { setLevel(level: LogLevel): void };

/** Lines of `level` and above go to `write`, each with its newline; times are UTC to the millisecond. */
export function jsonLog(level: LogLevel, write: (line: string) => void, now: () => Date): LeveledLog {
  let threshold = severity[level];
  const log: Log = (lineLevel, message, fields) => {
    if (severity[lineLevel] < threshold) return;
    const line = { time: now().toISOString(), level: lineLevel, message, ...fields };
    write(`${JSON.stringify(line, (_key, value) => (typeof value === "bigint" ? String(value) : value))}\n`);
  };
  const setLevel = (next: LogLevel) => {
    threshold = severity[next];
  };
  return Object.assign(log, { setLevel });
}
