// Errors of the pod model, each with its gRPC code and its remedy.

import { catalogue } from "../native/index.ts";

export const podErrors = catalogue({
  sandboxNotFound: {
    code: "NotFound",
    sentence: "Pod sandbox {id} does not exist.",
    remedy: "List the sandboxes (crictl pods) and use an id from there.",
  },
  containerNotFound: {
    code: "NotFound",
    sentence: "Container {id} does not exist.",
    remedy: "List the containers (crictl ps -a) and use an id from there.",
  },
  idAmbiguous: {
    code: "NotFound",
    sentence: "The id prefix {id} fits more than one {object}.",
    remedy: "Give more digits.",
  },
  idEmpty: {
    code: "InvalidArgument",
    sentence: "The request names no {object}.",
    remedy: "Fill in the id.",
  },
  sandboxExists: {
    code: "AlreadyExists",
    sentence: "Pod sandbox {id} has the same name, namespace, uid and attempt, and is stopped.",
    remedy: "Remove it, or run the sandbox with the next attempt.",
  },
  handlerUnknown: {
    code: "InvalidArgument",
    sentence: "The runtime handler {handler} is not configured.",
    remedy: "Use one of: {known}; or add it under [runtime.handlers] in the configuration.",
  },
  handlerBinary: {
    code: "FailedPrecondition",
    sentence: "The runtime handler {handler} cannot be used: {binary} cannot be run or judged ({reason}).",
    remedy: "Install it, or correct runtime.handlers.{handler}.binary.",
  },
  handlerUnsafe: {
    code: "FailedPrecondition",
    sentence:
      "The runtime handler {handler} is refused: {binary} is {found}, with which an image or a container reaches the host ({advisories}).",
    remedy: "Install a release that has the fixes, the first of each branch being {wanted}, or use the handler native.",
  },
  defaultHandlerUnusable: {
    code: "InvalidArgument",
    sentence: "Pods that name no runtime handler get {handler}, so none of them would start: {reason}",
    remedy: "Or name another as runtime.default_handler in the configuration.",
  },
  sandboxNotReady: {
    code: "FailedPrecondition",
    sentence: "Pod sandbox {id} is not ready, so {step} is not possible.",
    remedy: "Run a new sandbox for the pod.",
  },
  portClosed: {
    code: "FailedPrecondition",
    sentence: "Nothing in pod sandbox {id} listens on port {port} of its localhost.",
    remedy:
      "Start the program that is to answer there, have it listen on 127.0.0.1 or ::1 too, or forward to its port.",
  },
  containerState: {
    code: "FailedPrecondition",
    sentence: "Container {id} is {state}, so {step} is not possible.",
    remedy: "It has to be {wanted}.",
  },
  imageMissing: {
    code: "NotFound",
    sentence: "The image {image} is not on this node.",
    remedy: "Pull it first (crictl pull), or load it (keelson image load).",
  },
  networkNotReady: {
    code: "Unavailable",
    sentence: "Pod {pod} needs a network and there is none: {reason}",
    remedy: "Put a valid CNI configuration in place, or use the host's network.",
  },
  commandMissing: {
    code: "InvalidArgument",
    sentence: "Container {container} has no command: neither the request nor the image {image} names one.",
    remedy: "Set command or args.",
  },
  userUnknown: {
    code: "InvalidArgument",
    sentence: "Image {image} has no user {user}.",
    remedy: "Use a numeric user id, or a name from the image's /etc/passwd.",
  },
  groupUnknown: {
    code: "InvalidArgument",
    sentence: "Image {image} has no group {group}.",
    remedy: "Use a numeric group id, or a name from the image's /etc/group.",
  },
  idOutOfRange: {
    code: "InvalidArgument",
    sentence: "The {kind} id {id} is outside 0 to 2147483647.",
    remedy: "Use an id within that range.",
  },
  idUnmapped: {
    code: "InvalidArgument",
    sentence: "The {kind} id {id} does not exist in the pod's user namespace, whose {kind} ids are {ranges}.",
    remedy: "Use an id within it, or run the pod with hostUsers: true.",
  },
  accountFile: {
    code: "InvalidArgument",
    sentence: "{path} of image {image} cannot be used: it is {why}.",
    remedy: "Rebuild the image with an ordinary {path} of at most 1 MiB, or run as a numeric user.",
  },
  capabilityUnknown: {
    code: "InvalidArgument",
    sentence: "There is no capability {name}.",
    remedy: "Use a name from capabilities(7), with or without CAP_, or ALL.",
  },
  seccompProfile: {
    code: "InvalidArgument",
    sentence: "The seccomp profile {path} cannot be used: {reason}.",
    remedy: "Give the absolute path of a JSON profile in the form of the OCI runtime spec.",
  },
  seccompFilterMissing: {
    code: "FailedPrecondition",
    sentence: "Container {id} is to run under a seccomp profile whose compiled filter is not recorded.",
    remedy: "Remove the container and create it again.",
  },
  apparmorUnavailable: {
    code: "InvalidArgument",
    sentence: "AppArmor profile {profile} was asked for and this kernel has no AppArmor.",
    remedy: "Leave the profile out, or run the pod on a node whose kernel has AppArmor.",
  },
  cgroupParent: {
    code: "InvalidArgument",
    sentence: "The cgroup parent {parent} of pod {pod} cannot be used: with the cgroup driver {driver} it is {wanted}.",
    remedy:
      "Let the kubelet take the driver from the runtime (its default), or set its cgroupDriver and cgroup.driver of Keelson's configuration to the same.",
  },
  systemdMissing: {
    code: "FailedPrecondition",
    sentence: "The cgroup driver systemd is configured, and {reason}.",
    remedy: "Set cgroup.driver to cgroupfs or auto, or run Keelson where systemd is PID 1 and D-Bus is installed.",
  },
  scopeFailed: {
    code: "Internal",
    sentence: "The scope {scope} was not started by systemd: {reason}.",
    remedy: "Read systemd's own log (journalctl -b _PID=1) about that unit.",
  },
  systemdLate: {
    code: "DeadlineExceeded",
    sentence: "The scope {scope} had not been started by systemd after {seconds} s: {reason}.",
    remedy: "Look whether systemd and the system bus answer (busctl status), and what they wait for.",
  },
  apparmorDefault: {
    code: "FailedPrecondition",
    sentence: "The runtime's default AppArmor profile {profile} was asked for and is not loaded: {reason}.",
    remedy: "Install apparmor_parser (Debian: apparmor) and restart keelson, or run the container Unconfined.",
  },
  selinuxOption: {
    code: "InvalidArgument",
    sentence: "The SELinux {part} {value} of {object} cannot be used: {reason}.",
    remedy: "Name one of this host's policy (seinfo lists them), or leave it out for the runtime's own.",
  },
  selinuxLabel: {
    code: "InvalidArgument",
    sentence: "The SELinux label {label} of {object} is not known to this host's policy.",
    remedy: "Correct the SELinux options, or load a policy that has their user, role, type and level (semodule -i).",
  },
  selinuxUnlabelled: {
    code: "FailedPrecondition",
    sentence: "The SELinux label {label} was asked for {object}, and no label can be given on this node: {reason}.",
    remedy:
      "Install a policy for containers (Fedora: container-selinux, Debian: selinux-policy-default), restart keelson and run the pod again, or leave the SELinux options out.",
  },
  selinuxHostPlace: {
    code: "InvalidArgument",
    sentence: "The mount of {source} at {target} is to be relabelled, and that is the host's own.",
    remedy: "Mount a directory that is the pod's alone, or leave selinux_relabel out.",
  },
  selinuxRelabel: {
    code: "FailedPrecondition",
    sentence: "The mount of {source} at {target} cannot get the SELinux label {label}: {reason}.",
    remedy: "Label it by hand (chcon -R), or mount its file system with that label (mount -o context=).",
  },
  otherUsers: {
    code: "InvalidArgument",
    sentence: "Container {container} asks in userns_options for other users than its pod sandbox {id} has.",
    remedy: "Give it the userns_options that the sandbox was run with, or none.",
  },
  mountSource: {
    code: "InvalidArgument",
    sentence: "The mount of {source} at {target} cannot be set up: {reason}.",
    remedy: "Check that the host path exists and is readable.",
  },
  mountSourceSilent: {
    code: "Unavailable",
    sentence: "The mount of {source} at {target} cannot be set up: its file system has not answered for {seconds} s.",
    remedy: "Bring the volume's server back, or delete the pod.",
  },
  mountNotShared: {
    code: "FailedPrecondition",
    sentence:
      "The mount of {source} at {target} is to be {propagation}, but the host shares {point}, on which it lies, with nobody.",
    remedy: "Share it with mount --make-rshared {point}, at each boot.",
  },
  mountTarget: {
    code: "InvalidArgument",
    sentence: "The mount target {target} is not usable: {reason}.",
    remedy: "Give an absolute path below the container's root.",
  },
  imageVolumeMissing: {
    code: "NotFound",
    sentence: "ImageVolumeMountFailed: the image {image}, to be mounted at {target}, is not on this node.",
    remedy: "Pull it first.",
  },
  imageSubPathMissing: {
    code: "FailedPrecondition",
    sentence: "ImageVolumeMountFailed: there is no {path} in the image {image}, to be mounted at {target}.",
    remedy: "Give a path that the image has.",
  },
  userNamespaceUnsupported: {
    code: "FailedPrecondition",
    sentence: "Pod {pod} asks for a user namespace, which the runtime handler {handler} cannot give on this node.",
    remedy:
      "Use the handler native on Linux 6.7 or newer with user.max_user_namespaces above 0, or leave hostUsers true.",
  },
  recursiveReadOnlyUnsupported: {
    code: "FailedPrecondition",
    sentence:
      "RROUnsupported: the mount at {target} is to be recursively read-only, which the runtime handler {handler} cannot do.",
    remedy: "Use the handler native, or recursiveReadOnly: IfPossible.",
  },
  namespaceTarget: {
    code: "InvalidArgument",
    sentence: "The PID namespace of container {target} cannot be joined: {reason}.",
    remedy: "Name a running container of the same pod.",
  },
  deviceMissing: {
    code: "InvalidArgument",
    sentence: "The device {path} cannot be given to the container: {reason}.",
    remedy: "Name a device node of this host, or a directory of them.",
  },
  deviceSilent: {
    code: "Unavailable",
    sentence: "The device {path} cannot be given to the container: its file system has not answered for {seconds} s.",
    remedy: "Bring the file system's server back, or delete the pod.",
  },
  cdiUnsupported: {
    code: "Unimplemented",
    sentence: "CDI device {device} was asked for, and this version has no CDI.",
    remedy: "Pass the device nodes themselves.",
  },
  memoryBelowUse: {
    code: "InvalidArgument",
    sentence: "Container {id} uses {used} bytes of memory, so its limit cannot become {limit}.",
    remedy: "Ask for a higher limit; the old one stays in force.",
  },
  swapBelowMemory: {
    code: "InvalidArgument",
    sentence: "Container {id} cannot have {swap} bytes of memory and swap together with {limit} of memory alone.",
    remedy: "Give memory_swap_limit_in_bytes at least the memory limit, or -1.",
  },
  updateFailed: {
    code: "Internal",
    sentence: "The resources of container {id} could not be updated: {reason}.",
    remedy: "The old ones stay in force; ask for what this host's cgroups can give.",
  },
  startFailed: {
    code: "Internal",
    sentence: "Container {id} could not be started: {reason}.",
    remedy: "Read the step that failed; the container is left exited with code 128.",
  },
  callerGone: {
    code: "Cancelled",
    sentence: "The caller gave up while {step} of {object} was in progress.",
    remedy: "Ask again: the work goes on and the retry gets its result.",
  },
  apparmorUnknown: {
    code: "InvalidArgument",
    sentence: "The AppArmor profile {profile} is not loaded on this node.",
    remedy: "Load it (apparmor_parser -r), or name one that /sys/kernel/security/apparmor/profiles lists.",
  },
  checkpointUnable: {
    code: "Unimplemented",
    sentence: "Container {id} cannot be checkpointed: {reason}.",
    remedy:
      "Install a CRIU that works on this node's kernel (criu check says whether it does), for example Debian 13's.",
  },
  checkpointTerminal: {
    code: "Unimplemented",
    sentence:
      "Container {id} has a terminal, and the criu command cannot write down one whose other end is outside the container.",
    remedy: "Checkpoint containers that run without a terminal (tty false).",
  },
  checkpointNowhere: {
    code: "InvalidArgument",
    sentence: "The checkpoint cannot be written to {location}: the directory it names does not exist.",
    remedy: "Make the directory, or name a file in another.",
  },
  checkpointSilent: {
    code: "Unavailable",
    sentence: "Nothing can be written to {location}: its file system has not answered for {seconds} s.",
    remedy: "Bring its server back, or name a file on another file system.",
  },
  checkpointTaken: {
    code: "AlreadyExists",
    sentence: "There is something at {location} already.",
    remedy: "Name a file that does not exist; checkpoints are never overwritten.",
  },
  checkpointUnderway: {
    code: "Aborted",
    sentence: "Container {id} is being checkpointed already.",
    remedy: "Wait for that checkpoint, or end its call.",
  },
  checkpointStopped: {
    code: "Aborted",
    sentence: "The checkpoint of container {id} was broken off, because the container is being stopped.",
    remedy: "Checkpoint a container before stopping it.",
  },
  checkpointLate: {
    code: "DeadlineExceeded",
    sentence:
      "The checkpoint of container {id} was not done within {seconds} s and was broken off; the container runs on.",
    remedy: "Give it more time: all of the container's memory and changed files are written to disk.",
  },
  checkpointGivenUp: {
    code: "Cancelled",
    sentence: "The caller gave up, so the checkpoint of container {id} was broken off; the container runs on.",
    remedy: "Ask again, with a longer deadline.",
  },
  checkpointFailed: {
    code: "Internal",
    sentence: "The checkpoint of container {id} failed and the container runs on: {reason}.",
    remedy: "See what CRIU can write down (criu.org, What cannot be checkpointed), and whether the disk is full.",
  },
  busy: {
    code: "DeadlineExceeded",
    sentence: "{object} is still at work on an earlier request ({step}).",
    remedy: "Ask again; keelson status shows what it waits for, and since when.",
  },
  stepDeadline: {
    code: "DeadlineExceeded",
    sentence: "{step} of {object} took longer than {seconds} s and was taken back.",
    remedy: "Ask again, and see with keelson status what it waits for meanwhile.",
  },
  processesAlive: {
    code: "DeadlineExceeded",
    sentence: "Processes in the cgroup {cgroup} did not die within {seconds} s of SIGKILL.",
    remedy: "They wait in the kernel, mostly for a volume whose server is gone: bring it back, then ask again.",
  },
  eventsUnread: {
    code: "ResourceExhausted",
    sentence: "The reader of the events is {limit} of them behind, so its stream ends here.",
    remedy: "Subscribe again, list the sandboxes and containers for what was missed, and read events as they come.",
  },
  outputBudget: {
    code: "ResourceExhausted",
    sentence:
      "The output of the command in container {container} had no room for {seconds} s, so the command was ended.",
    remedy: "Commands with much output run {limit} at once on a node; ask again, or let the command print less.",
  },
  logPathless: {
    code: "FailedPrecondition",
    sentence: "Container {id} has no log file.",
    remedy: "Create it with a log_path, in a sandbox with a log_directory.",
  },
  leaksUnknown: {
    code: "FailedPrecondition",
    sentence: "What belongs to no pod cannot be told: {directory} cannot be read: {reason}.",
    remedy:
      "Look as root, with the daemon's own --root and --state; a disk that fails has left its reason in the kernel's log.",
  },
});
