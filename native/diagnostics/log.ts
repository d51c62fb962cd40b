// The daemon's log interface for all packages: a level, what happened, and the objects involved by name.

export type LogLevel = "debug" | "info" | "warn" | "error";

export type LogFields = Readonly<Record<string, unknown>>;

export type Log = (level: LogLevel, message: string, fields?: LogFields) => void;
