// The daemon's log: one JSON object per line on stderr.

import type { Log, LogLevel } from "../native/index.ts";

const severity: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3 };

/** A log whose threshold can be changed while it is in use. */
export type LeveledLog = Log & { setLevel(level: LogLevel): void };

/** The stream that the log is written to. */
export interface LogStream {
  write(line: string): unknown;
  /** Bytes, or characters, that its reader has not read yet. */
  readonly writableLength: number;
}

/** Limit of unread lines. A stalled reader (a journal on a hung disk) must not fill the memory. */
const unreadLimit = 4 << 20;

/** Writes lines of `level` and above; times are UTC to the millisecond. */
export function jsonLog(level: LogLevel, stream: LogStream, now: () => Date): LeveledLog {
  let threshold = severity[level];
  let dropped = 0;
  const write: Log = (lineLevel, message, fields) => {
    const line = { time: now().toISOString(), level: lineLevel, message, ...fields };
    stream.write(`${JSON.stringify(line, (_key, value) => (typeof value === "bigint" ? String(value) : value))}\n`);
  };
  const log: Log = (lineLevel, message, fields) => {
    if (severity[lineLevel] < threshold) return;
    if (stream.writableLength > unreadLimit) {
      dropped += 1;
      return;
    }
    if (dropped > 0) write("warn", "log lines were dropped because they were not read", { lines: dropped });
    dropped = 0;
    write(lineLevel, message, fields);
  };
  const setLevel = (next: LogLevel) => {
    threshold = severity[next];
  };
  return Object.assign(log, { setLevel });
}
