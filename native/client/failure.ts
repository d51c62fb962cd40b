// What C++ tells of a failed step (native/common/error.h), as it crosses into TypeScript:
// in an ERROR frame of the monitor or in a rejection of the addon.

/** The words of `kind` in PROTOCOL.md; `limit` is only the unpacker's. */
const failureKinds = [
  "protocol",
  "busy",
  "not_found",
  "exists",
  "state",
  "invalid",
  "not_executable",
  "system",
  "timeout",
  "limit",
] as const;
export type FailureKind = (typeof failureKinds)[number];

export interface Failure {
  readonly kind: FailureKind;
  /** The step that failed: "mount /proc". */
  readonly step: string;
  /** What it was about: "container 3f…"; may be empty. */
  readonly object: string;
  /** 0 when the kernel had no part in it. */
  readonly errno: number;
  /** Names object, step and errno in words; without a full stop. */
  readonly message: string;
}

/** Reads a failure from outside; undefined when it is none. */
export function parseFailure(value: unknown): Failure | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const given: unknown = Reflect.get(value, "kind");
  const step: unknown = Reflect.get(value, "step");
  const object: unknown = Reflect.get(value, "object");
  const errno: unknown = Reflect.get(value, "errno");
  const message: unknown = Reflect.get(value, "message");
  const kind = failureKinds.find((each) => each === given);
  if (kind === undefined || typeof step !== "string" || typeof object !== "string") return undefined;
  if (typeof errno !== "number" || typeof message !== "string") return undefined;
  return { kind, step, object, errno, message: message.replace(/\.$/, "") };
}
