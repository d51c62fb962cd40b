// The errors of host.ts: the addon missing, or a system call refused.

import { getSystemErrorMessage, getSystemErrorName } from "node:util";
import { catalogue, KeelsonError } from "./errors.ts";
import { type Failure, type FailureKind, parseFailure } from "./failure.ts";

export const hostErrors = catalogue({
  addonNotLoaded: {
    code: "FailedPrecondition",
    sentence: "The native addon {path} cannot be loaded: {reason}.",
    remedy: "Build it with `npm run build:native`, or install the package again for this machine.",
  },
  hostInvalid: {
    code: "InvalidArgument",
    sentence: "{message}.",
    remedy: "Correct the file or value that it names.",
  },
  hostNotFound: {
    code: "NotFound",
    sentence: "{message}.",
    remedy: "It was removed, or never made.",
  },
  hostChanged: {
    code: "Aborted",
    sentence: "{message}.",
    remedy: "Try again when no other process changes it.",
  },
  hostLate: {
    code: "DeadlineExceeded",
    sentence: "{message}.",
    remedy: "Try again when the host is less busy, or with less to do.",
  },
  hostRefused: {
    code: "Internal",
    sentence: "{message}.",
    remedy: "The kernel's reason stands at its end; `keelson check` tells whether this host can do what Keelson needs.",
  },
});

const byKind: Readonly<Partial<Record<FailureKind, Exclude<keyof typeof hostErrors, "addonNotLoaded">>>> = {
  invalid: "hostInvalid",
  not_found: "hostNotFound",
  state: "hostChanged",
  timeout: "hostLate",
};

/** A rejection of the addon; `kind`, `step`, `object` and `errno` as in Failure. */
export class HostError extends KeelsonError {
  readonly kind: FailureKind;
  readonly step: string;
  readonly object: string;
  readonly errno: number;

  constructor(base: KeelsonError, failure: Failure) {
    super(base.name, base.code, base.message, base.cause);
    this.kind = failure.kind;
    this.step = failure.step;
    this.object = failure.object;
    this.errno = failure.errno;
  }
}

/** What the addon rejected with, as a HostError; anything else (a TypeError) stays what it is. */
export function fromAddon(error: unknown): unknown {
  const failure = parseFailure(error);
  if (failure === undefined) return error;
  const base = hostErrors[byKind[failure.kind] ?? "hostRefused"]({ message: failure.message }, error);
  return new HostError(base, failure);
}

/**
 * An error of the kernel's as Node's own functions have it (`code` is ENOENT, ENOSPC …); any other stays what it is.
 * `path` and `syscall` are what it is about.
 */
export function asNodeError(error: unknown, syscall: string, path: string): unknown {
  if (!(error instanceof HostError) || error.errno === 0) return error;
  const errno = -error.errno;
  const code = getSystemErrorName(errno);
  const message = `${code}: ${getSystemErrorMessage(errno)}, ${syscall} '${path}'`;
  return Object.assign(new Error(message, { cause: error }), { code, errno, syscall, path });
}
