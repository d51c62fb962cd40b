// Maps errors to the wire: a gRPC code and a message.

import { status } from "@grpc/grpc-js";
import { firstLine, KeelsonError, type StatusCode } from "../../native/index.ts";
import { criErrors } from "../errors.ts";
import { exhausted } from "./resource-exhausted.ts";

const grpcCodes: Readonly<Record<StatusCode, status>> = {
  Cancelled: status.CANCELLED,
  Unknown: status.UNKNOWN,
  InvalidArgument: status.INVALID_ARGUMENT,
  DeadlineExceeded: status.DEADLINE_EXCEEDED,
  NotFound: status.NOT_FOUND,
  AlreadyExists: status.ALREADY_EXISTS,
  PermissionDenied: status.PERMISSION_DENIED,
  ResourceExhausted: status.RESOURCE_EXHAUSTED,
  FailedPrecondition: status.FAILED_PRECONDITION,
  Aborted: status.ABORTED,
  OutOfRange: status.OUT_OF_RANGE,
  Unimplemented: status.UNIMPLEMENTED,
  Internal: status.INTERNAL,
  Unavailable: status.UNAVAILABLE,
  Unauthenticated: status.UNAUTHENTICATED,
};

/** Clients reject trailers above their header limit, 16 KiB in some; percent-encoding may triple the size. */
const longestSentence = 4096;

export interface WireStatus {
  readonly code: status;
  readonly details: string;
}

/**
 * A node shortage takes precedence over the error that reports it, and the reason of an aborted call over whatever the
 * implementation throws because of the abort; errors outside of the catalogues are Internal.
 */
export function keelsonError(error: unknown, method: string, signal: AbortSignal): KeelsonError {
  const shortage = exhausted(method, error);
  if (shortage !== undefined) return shortage;
  if (error instanceof KeelsonError) return error;
  if (signal.aborted && signal.reason instanceof KeelsonError) return signal.reason;
  return criErrors.unexpected({ method, reason: firstLine(error) }, error);
}

export function wireStatus(error: KeelsonError): WireStatus {
  // Lone surrogates would make grpc-js's encodeURI throw.
  const text = error.message.toWellFormed();
  const details = text.length > longestSentence ? `${text.slice(0, longestSentence)}…` : text;
  return { code: grpcCodes[error.code], details: details.toWellFormed() };
}
