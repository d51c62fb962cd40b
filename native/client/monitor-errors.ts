// The errors of calls to a monitor: it is not running, does not answer in time, or answers with an ERROR.

import { type CatalogueEntry, catalogue, KeelsonError } from "./errors.ts";
import type { Failure, FailureKind } from "./failure.ts";

export const monitorErrors = catalogue({
  monitorUnreachable: {
    code: "Unavailable",
    sentence: "No monitor is listening on its socket {socket}: {reason}.",
    remedy: "The pod's monitor has exited; stop the pod and create it again.",
  },
  monitorNotConnected: {
    code: "ResourceExhausted",
    sentence: "Cannot connect to the monitor's socket {socket}: {reason}.",
    remedy: "The monitor or the daemon is temporarily overloaded; retry.",
  },
  monitorHungUp: {
    code: "Unavailable",
    sentence: "The monitor at {socket} closed the connection before it answered {call}.",
    remedy: "The monitor exited or dropped the call; monitor.log next to the socket may say why.",
  },
  monitorSilent: {
    code: "DeadlineExceeded",
    sentence: "The monitor at {socket} did not answer {call} within {timeoutMs} ms.",
    remedy: "The monitor or something it is waiting for is stuck; monitor.log next to the socket may say more.",
  },
  monitorUnintelligible: {
    code: "Internal",
    sentence: "The monitor at {socket} answered {call} with an invalid message: {reason}.",
    remedy: "Report it as a bug in Keelson, with the versions of the daemon and the monitor.",
  },
  callTooLarge: {
    code: "InvalidArgument",
    sentence: "The call {call} cannot be sent to the monitor: {reason}.",
    remedy: "Shorten its arguments.",
  },
  callCancelled: {
    code: "Cancelled",
    sentence: "The call {call} to the monitor at {socket} was cancelled.",
    remedy: "The caller cancelled it; no action is needed.",
  },
  monitorNotStarted: {
    code: "Internal",
    sentence: "The monitor of {podDirectory} did not start: {reason}.",
    remedy: "`keelson check` shows whether this host can run pods; monitor.log in that directory may say more.",
  },
  monitorStartTimeout: {
    code: "DeadlineExceeded",
    sentence: "The monitor of {podDirectory} was not ready within {timeoutMs} ms and was killed.",
    remedy: "The host is overloaded or a system call hangs; retry.",
  },
});

const sentence = "{message}.";
/** The error for a CRI client, by the `kind` of an ERROR. */
export const monitorRefusalErrors = catalogue({
  protocol: { code: "Internal", sentence, remedy: "Report it as a bug in Keelson." },
  busy: { code: "ResourceExhausted", sentence, remedy: "Close some of the pod's open sessions, or retry." },
  not_found: { code: "NotFound", sentence, remedy: "It never ran in this pod, or it was deleted." },
  exists: { code: "AlreadyExists", sentence, remedy: "Delete the existing one first." },
  state: { code: "FailedPrecondition", sentence, remedy: "Check its state: this call requires a different one." },
  invalid: { code: "InvalidArgument", sentence, remedy: "Correct the value named in this message." },
  not_executable: {
    code: "InvalidArgument",
    sentence,
    remedy: "The command and its interpreter must exist in the container and be executable by its user.",
  },
  system: {
    code: "Internal",
    sentence,
    remedy: "The kernel reported this error; `keelson check` shows whether this host meets Keelson's requirements.",
  },
  limit: {
    code: "ResourceExhausted",
    sentence,
    remedy: "Raise the memory limit of the container or its pod, or free memory on the node.",
  },
  timeout: { code: "DeadlineExceeded", sentence, remedy: "Increase the timeout, or check what it is waiting for." },
} satisfies Record<FailureKind, CatalogueEntry>);

/** An ERROR frame; `kind`, `step`, `object` and `errno` come from the monitor. */
export class MonitorError extends KeelsonError {
  readonly kind: FailureKind;
  readonly step: string;
  readonly object: string;
  readonly errno: number;

  constructor(failure: Failure) {
    const base = monitorRefusalErrors[failure.kind]({ message: failure.message });
    super("monitorRefused", base.code, base.message);
    this.kind = failure.kind;
    this.step = failure.step;
    this.object = failure.object;
    this.errno = failure.errno;
  }
}
