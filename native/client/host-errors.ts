// The errors of host.ts: the addon is missing, or a system call failed.

import { getSystemErrorMessage, getSystemErrorName } from "node:util";
import { catalogue, KeelsonError } from "./errors.ts";
import { type Failure, type FailureKind, parseFailure } from "./failure.ts";

export const hostErrors = catalogue({
  addonNotLoaded: {
    code: "FailedPrecondition",
    sentence: "The native addon {path} cannot be loaded: {reason}.",
    remedy: "Build it with `npm run build:native`, or reinstall the package for this machine.",
  },
  hostInvalid: {
    code: "InvalidArgument",
    sentence: "{message}.",
    remedy: "Correct the file or value named in this message.",
  },
  hostNotFound: {
    code: "NotFound",
    sentence: "{message}.",
    remedy: "It was removed, or never existed.",
  },
  hostChanged: {
    code: "Aborted",
    sentence: "{message}.",
    remedy: "Retry when no other process is changing it.",
  },
  hostLate: {
    code: "DeadlineExceeded",
    sentence: "{message}.",
    remedy: "Retry when the host is less busy, or with less work.",
  },
  hostRefused: {
    code: "Internal",
    sentence: "{message}.",
    remedy: "The kernel reported this error; `keelson check` shows whether this host meets Keelson's requirements.",
  },
});

const byKind: Readonly<Partial<Record<FailureKind, Exclude<keyof typeof hostErrors, "addonNotLoaded">>>> = {
  invalid: "hostInvalid",
  not_found: "hostNotFound",
  state: "hostChanged",
  timeout: "hostLate",
};

/** An error from the addon; `kind`, `step`, `object` and `errno` as in Failure. */
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

/** Converts an error from the addon to a HostError; any other error (a TypeError) is returned unchanged. */
export function fromAddon(error: unknown): unknown {
  const failure = parseFailure(error);
  if (failure === undefined) return error;
  const base = hostErrors[byKind[failure.kind] ?? "hostRefused"]({ message: failure.message }, error);
  return new HostError(base, failure);
}

/**
 * Converts a kernel error to the form of Node's own functions (`code` is ENOENT, ENOSPC …), with `path` and `syscall`;
 * any other error is returned unchanged.
 */
export function asNodeError(error: unknown, syscall: string, path: string): unknown {
  if (!(error instanceof HostError) || error.errno === 0) return error;
  const errno = -error.errno;
  const code = getSystemErrorName(errno);
  const message = `${code}: ${getSystemErrorMessage(errno)}, ${syscall} '${path}'`;
  return Object.assign(new Error(message, { cause: error }), { code, errno, syscall, path });
}
