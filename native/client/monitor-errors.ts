// The errors of calls to a monitor: nobody there, no answer in time, or the answer is an ERROR.

import { type CatalogueEntry, catalogue, KeelsonError } from "./errors.ts";
import type { Failure, FailureKind } from "./failure.ts";

export const monitorErrors = catalogue({
  monitorUnreachable: {
    code: "Unavailable",
    sentence: "Nobody listens on the monitor's socket {socket}: {reason}.",
    remedy: "The pod's monitor has ended; the pod must be stopped and made again.",
  },
  monitorNotConnected: {
    code: "ResourceExhausted",
    sentence: "The monitor's socket {socket} cannot be connected to now: {reason}.",
    remedy: "Too much is going on at once, in the monitor or in the daemon; try again.",
  },
  monitorHungUp: {
    code: "Unavailable",
    sentence: "The monitor at {socket} hung up before it answered {call}.",
    remedy: "The monitor ended or dropped the call; its monitor.log beside the socket may tell why.",
  },
  monitorSilent: {
    code: "DeadlineExceeded",
    sentence: "The monitor at {socket} did not answer {call} within {timeoutMs} ms.",
    remedy: "The monitor or what it waits for is stuck; its monitor.log beside the socket may tell more.",
  },
  monitorUnintelligible: {
    code: "Internal",
    sentence: "The monitor at {socket} answered {call} with something that is not its protocol: {reason}.",
    remedy: "Report it as a defect of Keelson, with the versions of daemon and monitor.",
  },
  callTooLarge: {
    code: "InvalidArgument",
    sentence: "The call {call} cannot be sent to the monitor: {reason}.",
    remedy: "Make its arguments shorter.",
  },
  callCancelled: {
    code: "Cancelled",
    sentence: "The call {call} to the monitor at {socket} was cancelled.",
    remedy: "The caller cancelled it; nothing needs to be done.",
  },
  monitorNotStarted: {
    code: "Internal",
    sentence: "The monitor of {podDirectory} did not start: {reason}.",
    remedy: "`keelson check` tells whether this host can run pods; monitor.log in that directory may tell more.",
  },
  monitorStartTimeout: {
    code: "DeadlineExceeded",
    sentence: "The monitor of {podDirectory} was not ready within {timeoutMs} ms and was killed.",
    remedy: "The host is overloaded or a kernel call hangs; try again.",
  },
});

const sentence = "{message}.";
/** By the `kind` of an ERROR: what it is to a CRI client. */
export const monitorRefusalErrors = catalogue({
  protocol: { code: "Internal", sentence, remedy: "Report it as a defect of Keelson." },
  busy: { code: "ResourceExhausted", sentence, remedy: "End some of the pod's open sessions, or try again." },
  not_found: { code: "NotFound", sentence, remedy: "It never ran in this pod, or it was deleted." },
  exists: { code: "AlreadyExists", sentence, remedy: "Delete the other one first." },
  state: { code: "FailedPrecondition", sentence, remedy: "Look at its state: this call needs another." },
  invalid: { code: "InvalidArgument", sentence, remedy: "Correct what it names." },
  not_executable: {
    code: "InvalidArgument",
    sentence,
    remedy: "The command must exist in the container, be executable by its user, and have its interpreter.",
  },
  system: {
    code: "Internal",
    sentence,
    remedy: "The kernel's reason stands at its end; `keelson check` tells whether this host can do what Keelson needs.",
  },
  limit: { code: "ResourceExhausted", sentence, remedy: "Ask for less." },
  timeout: { code: "DeadlineExceeded", sentence, remedy: "Give it more time, or look what it waits for." },
} satisfies Record<FailureKind, CatalogueEntry>);

/** An ERROR frame; `kind`, `step`, `object` and `errno` as the monitor said. */
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
