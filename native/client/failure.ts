// A failed step as reported by C++ code (native/common/error.h) to TypeScript: in an ERROR frame
// of the monitor, an error of the addon or the output of the unpacker.

/** The values of `kind` in PROTOCOL.md. */
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
  /** The object it was for: "container 3f…"; may be empty. */
  readonly object: string;
  /** 0 if it was not a failed system call. */
  readonly errno: number;
  /** Describes object, step and errno; without a full stop. */
  readonly message: string;
}

/** Parses a failure from outside; undefined if it is not one. */
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
