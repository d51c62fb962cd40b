// Errors of `keelson play`: why a manifest is rejected, and what prevents it from being played.

import { catalogue } from "../../native/index.ts";

export const playErrors = catalogue({
  manifestUnreadable: {
    code: "InvalidArgument",
    sentence: "The manifest {file} cannot be read: {reason}.",
    remedy: "Give a YAML file of at most 4 MiB; - is standard input.",
  },
  manifestSyntax: {
    code: "InvalidArgument",
    sentence: "The manifest {file} is not valid YAML: {reason}.",
    remedy: "Fix the syntax there.",
  },
  manifestTooLarge: {
    code: "InvalidArgument",
    sentence: "The manifests contain more than {limit} {what}.",
    remedy: "Split them into several plays, or use a cluster.",
  },
  nothingToPlay: {
    code: "InvalidArgument",
    sentence: "{files} contains no Pod, Deployment or Job.",
    remedy: "Give a manifest that has one.",
  },
  kindUnsupported: {
    code: "InvalidArgument",
    sentence: "{at}: {kind}: not supported by keelson play.",
    remedy: "Use v1 Pod, ConfigMap, Secret or List, apps/v1 Deployment, or batch/v1 Job.",
  },
  fieldUnsupported: {
    code: "InvalidArgument",
    sentence: "{at}: {path}: not supported by keelson play.",
    remedy: "Leave it out; keelson play --help lists what is supported.",
  },
  fieldUnknown: {
    code: "InvalidArgument",
    sentence: "{at}: {path}: there is no such field in Kubernetes.",
    remedy: "Check its spelling and its position.",
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
    sentence: "{workload} is already being played by process {pid}.",
    remedy: "Stop it with Ctrl-C or keelson play --down first.",
  },
  leftFromBefore: {
    code: "AlreadyExists",
    sentence: "{workload} is left over from a keelson play that was killed.",
    remedy: "Take it down with keelson play --down first.",
  },
  notTakenDown: {
    code: "Unavailable",
    sentence: "{workloads} could not be taken down: {reason}.",
    remedy: "Run keelson play --down once the runtime answers.",
  },
  hostPathUnfit: {
    code: "FailedPrecondition",
    sentence: "The volume {volume} cannot use the host path {path}: {problem}.",
    remedy: "Create it on the host, or give the volume another type or path.",
  },
  mountFailed: {
    code: "Internal",
    sentence: "Mounting a tmpfs for the volume {volume} failed: {reason}.",
    remedy: "Check that mount(8) is installed and memory is free.",
  },
  imageNeverPulled: {
    code: "FailedPrecondition",
    sentence: "The image {image} is not in the store, and imagePullPolicy is Never.",
    remedy: "Load it (keelson image load), or set another policy.",
  },
  rootUser: {
    code: "FailedPrecondition",
    sentence: "The container {container} must not run as root, but its image runs as {user}.",
    remedy: "Set runAsUser to a number above 0.",
  },
});
