// Errors of `keelson play`: what a manifest is refused for, and what stands in the way of playing it.

import { catalogue } from "../../native/index.ts";

export const playErrors = catalogue({
  manifestUnreadable: {
    code: "InvalidArgument",
    sentence: "The manifest {file} cannot be read: {reason}.",
    remedy: "Give a YAML file of at most 4 MiB; - is standard input.",
  },
  manifestSyntax: {
    code: "InvalidArgument",
    sentence: "The manifest {file} is not YAML: {reason}.",
    remedy: "Correct it there.",
  },
  manifestTooLarge: {
    code: "InvalidArgument",
    sentence: "The manifests hold more than {limit} {what}.",
    remedy: "Play them in several goes, or ask a cluster.",
  },
  nothingToPlay: {
    code: "InvalidArgument",
    sentence: "{files} holds no Pod, Deployment or Job.",
    remedy: "Give a manifest that has one.",
  },
  kindUnsupported: {
    code: "InvalidArgument",
    sentence: "{at}: {kind}: not supported by keelson play.",
    remedy: "It plays v1 Pod, ConfigMap, Secret and List, apps/v1 Deployment, batch/v1 Job.",
  },
  fieldUnsupported: {
    code: "InvalidArgument",
    sentence: "{at}: {path}: not supported by keelson play.",
    remedy: "Leave it out; keelson play --help lists what is supported.",
  },
  fieldUnknown: {
    code: "InvalidArgument",
    sentence: "{at}: {path}: there is no such field in Kubernetes.",
    remedy: "Check its spelling and its place.",
  },
  fieldWrong: {
    code: "InvalidArgument",
    sentence: "{at}: {path}: {problem}.",
    remedy: "Set it to {wanted}.",
  },
  objectTwice: {
    code: "InvalidArgument",
    sentence: "{at}: there is another {kind} {name} in {first}.",
    remedy: "Give one of them another name or namespace.",
  },
  playedAlready: {
    code: "AlreadyExists",
    sentence: "{workload} is being played by the process {pid}.",
    remedy: "End that one with Ctrl-C or keelson play --down first.",
  },
  leftFromBefore: {
    code: "AlreadyExists",
    sentence: "{workload} is left from a keelson play that was killed.",
    remedy: "Take it down with keelson play --down first.",
  },
  notTakenDown: {
    code: "Unavailable",
    sentence: "{workloads} could not be taken down: {reason}.",
    remedy: "Once the runtime answers: keelson play --down.",
  },
  hostPathUnfit: {
    code: "FailedPrecondition",
    sentence: "The volume {volume} cannot use {path} of the host: {problem}.",
    remedy: "Make it there, or give the volume another type or path.",
  },
  mountFailed: {
    code: "Internal",
    sentence: "Mounting memory for the volume {volume} failed: {reason}.",
    remedy: "Check that mount(8) is there and memory is free.",
  },
  imageNeverPulled: {
    code: "FailedPrecondition",
    sentence: "The image {image} is not in the store, and imagePullPolicy is Never.",
    remedy: "Load it (keelson image load), or set another policy.",
  },
  rootUser: {
    code: "FailedPrecondition",
    sentence: "The container {container} must not run as root, and its image runs as {user}.",
    remedy: "Set runAsUser to a number above 0.",
  },
});
