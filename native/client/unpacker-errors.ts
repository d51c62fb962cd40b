// The errors of unpacker.ts: a layer is rejected, or the process that unpacks it fails.

import { constants } from "node:os";
import { catalogue, type KeelsonError } from "./errors.ts";
import type { Failure } from "./failure.ts";

export const unpackerErrors = catalogue({
  layerInvalid: {
    code: "InvalidArgument",
    sentence: "The layer cannot be unpacked: {message}.",
    remedy: "It is damaged or contains entries that a layer must not contain; rebuild the image or push it again.",
  },
  layerTooLarge: {
    code: "ResourceExhausted",
    sentence: "The layer is larger than this node allows: {message}.",
    remedy: "Use an image with smaller layers: these limits are fixed.",
  },
  noRoomForLayer: {
    code: "ResourceExhausted",
    sentence: "The layer cannot be written: {message}.",
    remedy: "Free space and inodes on the file system of {directory}.",
  },
  layerTargetTaken: {
    code: "AlreadyExists",
    sentence: "The layer cannot be written: {message}.",
    remedy: "Remove what an earlier attempt left behind.",
  },
  layerNotWritten: {
    code: "Internal",
    sentence: "The layer cannot be written to {directory}: {message}.",
    remedy: "The kernel reported this error; `keelson check` shows whether this host meets Keelson's requirements.",
  },
  unpackerNotStarted: {
    code: "FailedPrecondition",
    sentence: "The unpacker {binary} cannot be started: {problem}.",
    remedy: "If it is missing, run `npm run build:native`; if the host is out of a resource, free some of it.",
  },
  unpackerDied: {
    code: "Internal",
    sentence: "The unpacker for {directory} exited without a report: {how}.",
    remedy: "Retry; if it fails again, report it with the image's name.",
  },
  unpackAborted: {
    code: "Cancelled",
    sentence: "Unpacking a layer into {directory} was cancelled.",
    remedy: "The caller cancelled it; retry if the layer is still needed.",
  },
});

const outOfRoom: ReadonlySet<number> = new Set([constants.errno.ENOSPC, constants.errno.EDQUOT]);

/** The error for a failure that keelson-unpack reported while it wrote to `directory`. */
export function fromUnpacker(failure: Failure, directory: string): KeelsonError {
  const { kind, message } = failure;
  if (kind === "invalid") return unpackerErrors.layerInvalid({ message });
  if (kind === "limit") return unpackerErrors.layerTooLarge({ message });
  if (kind === "exists") return unpackerErrors.layerTargetTaken({ message });
  if (outOfRoom.has(failure.errno)) return unpackerErrors.noRoomForLayer({ message, directory });
  return unpackerErrors.layerNotWritten({ message, directory });
}
