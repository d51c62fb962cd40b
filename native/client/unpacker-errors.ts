// The errors of unpacker.ts: a layer refused, or the process that unpacks it in trouble.

import { constants } from "node:os";
import { catalogue, type KeelsonError } from "./errors.ts";
import type { Failure } from "./failure.ts";

export const unpackerErrors = catalogue({
  layerInvalid: {
    code: "InvalidArgument",
    sentence: "The layer cannot be unpacked: {message}.",
    remedy: "It is damaged or holds what no layer may hold; build or push the image again.",
  },
  layerTooLarge: {
    code: "ResourceExhausted",
    sentence: "The layer is larger than this node allows: {message}.",
    remedy: "Use an image of smaller layers: these limits are fixed.",
  },
  noRoomForLayer: {
    code: "ResourceExhausted",
    sentence: "The layer cannot be written: {message}.",
    remedy: "Free space and inodes on the file system of {directory}.",
  },
  layerTargetTaken: {
    code: "AlreadyExists",
    sentence: "The layer cannot be written: {message}.",
    remedy: "Remove what an earlier try left behind.",
  },
  layerNotWritten: {
    code: "Internal",
    sentence: "The layer cannot be written to {directory}: {message}.",
    remedy: "The kernel's reason stands at its end; `keelson check` tells whether this host can do what Keelson needs.",
  },
  unpackerNotStarted: {
    code: "FailedPrecondition",
    sentence: "The unpacker {binary} cannot be started: {problem}.",
    remedy: "If it is missing, run `npm run build:native`; if the host is out of something, give it more.",
  },
  unpackerDied: {
    code: "Internal",
    sentence: "The unpacker of {directory} ended without a report: {how}.",
    remedy: "Try again; if it stays so, report it with the image's name.",
  },
  unpackAborted: {
    code: "Cancelled",
    sentence: "Unpacking a layer into {directory} was cancelled.",
    remedy: "The caller cancelled it; ask again.",
  },
});

const outOfRoom: ReadonlySet<number> = new Set([constants.errno.ENOSPC, constants.errno.EDQUOT]);

/** The error for what keelson-unpack says went wrong while it wrote to `directory`. */
export function fromUnpacker(failure: Failure, directory: string): KeelsonError {
  const { kind, message } = failure;
  if (kind === "invalid") return unpackerErrors.layerInvalid({ message });
  if (kind === "limit") return unpackerErrors.layerTooLarge({ message });
  if (kind === "exists") return unpackerErrors.layerTargetTaken({ message });
  if (outOfRoom.has(failure.errno)) return unpackerErrors.noRoomForLayer({ message, directory });
  return unpackerErrors.layerNotWritten({ message, directory });
}
