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
    sentence: "The id prefix {id} matches more than one {object}.",
    remedy: "Use a longer prefix or the full id.",
  },
  idEmpty: {
    code: "InvalidArgument",
    sentence: "The request has no {object} id.",
    remedy: "Set the id.",
  },
  sandboxExists: {
    code: "AlreadyExists",
    sentence: "Pod sandbox {id} with the same name, namespace, uid and attempt already exists and is stopped.",
    remedy: "Remove it, or run the sandbox with the next attempt number.",
  },
  leftAlone: {
    code: "FailedPrecondition",
    sentence:
      "Pod sandbox or container {id} still exists and is left untouched, because a record cannot be read: {reason}.",
    remedy:
      "If a newer keelson wrote it, upgrade again, and drain the node before a downgrade; otherwise repair the file.",
  },
  handlerUnknown: {
    code: "InvalidArgument",
    sentence: "The runtime handler {handler} is not configured.",
    remedy: "Use one of: {known}; or add the handler under [runtime.handlers] in the configuration.",
  },
  handlerBinary: {
    code: "FailedPrecondition",
    sentence:
      "The runtime handler {handler} cannot be used: {binary} cannot be run or its version is unknown ({reason}).",
    remedy: "Install the binary, or correct runtime.handlers.{handler}.binary.",
  },
  handlerUnsafe: {
    code: "FailedPrecondition",
    sentence:
      "The runtime handler {handler} is refused: {binary} is {found}, which lets an image or a container escape to the host ({advisories}).",
    remedy: "Install a fixed release (the first fixed one of each branch: {wanted}), or use the handler native.",
  },
  defaultHandlerUnusable: {
    code: "InvalidArgument",
    sentence: "The default runtime handler {handler} is unusable, so pods without a handler could not start: {reason}",
    remedy: "Or set runtime.default_handler to another handler in the configuration.",
  },
  sandboxNotReady: {
    code: "FailedPrecondition",
    sentence: "Pod sandbox {id} is not ready, so {step} is not possible.",
    remedy: "Run a new sandbox for the pod.",
  },
  portClosed: {
    code: "FailedPrecondition",
    sentence: "Nothing in pod sandbox {id} listens on localhost port {port}.",
    remedy: "Start the server, make it listen on 127.0.0.1 or ::1 too, or forward to the port that it uses.",
  },
  containerState: {
    code: "FailedPrecondition",
    sentence: "Container {id} is {state}, so {step} is not possible.",
    remedy: "The container must be {wanted}.",
  },
  imageMissing: {
    code: "NotFound",
    sentence: "The image {image} is not on this node.",
    remedy: "Pull it first (crictl pull), or load it (keelson image load).",
  },
  networkNotReady: {
    code: "Unavailable",
    sentence: "Pod {pod} needs a network and none is ready: {reason}",
    remedy: "Install a valid CNI configuration, or use the host network.",
  },
  commandMissing: {
    code: "InvalidArgument",
    sentence: "Container {container} has no command: neither the request nor the image {image} sets one.",
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
    sentence: "The {kind} id {id} is not mapped in the pod's user namespace, whose {kind} ids are {ranges}.",
    remedy: "Use a mapped id, or run the pod with hostUsers: true.",
  },
  accountFile: {
    code: "InvalidArgument",
    sentence: "{path} of image {image} cannot be used: it is {why}.",
    remedy: "Rebuild the image with {path} as a regular file of at most 1 MiB, or run as a numeric user.",
  },
  capabilityUnknown: {
    code: "InvalidArgument",
    sentence: "The capability {name} is unknown.",
    remedy: "Use a name from capabilities(7), with or without CAP_, or ALL.",
  },
  seccompProfile: {
    code: "InvalidArgument",
    sentence: "The seccomp profile {path} cannot be used: {reason}.",
    remedy: "Use the absolute path of a JSON seccomp profile in the OCI runtime spec format.",
  },
  seccompFilterMissing: {
    code: "FailedPrecondition",
    sentence: "Container {id} cannot start: the compiled filter of its seccomp profile is not on record.",
    remedy: "Remove the container and create it again.",
  },
  apparmorUnavailable: {
    code: "InvalidArgument",
    sentence: "AppArmor profile {profile} was requested, but this kernel has no AppArmor.",
    remedy: "Leave the profile out, or run the pod on a node whose kernel has AppArmor.",
  },
  cgroupParent: {
    code: "InvalidArgument",
    sentence: "The cgroup parent {parent} of pod {pod} cannot be used: the cgroup driver {driver} requires {wanted}.",
    remedy:
      "Let the kubelet detect the driver from the runtime (its default), or set the kubelet's cgroupDriver and Keelson's cgroup.driver to the same value.",
  },
  cgroupRoot: {
    code: "InvalidArgument",
    sentence: "The key cgroup.root is {root}, which is not the name of a slice, as the cgroup driver systemd requires.",
    remedy: "Set it to a path of letters and digits, such as /keelson for keelson.slice.",
  },
  systemdMissing: {
    code: "FailedPrecondition",
    sentence: "The cgroup driver systemd is configured, but {reason}.",
    remedy: "Set cgroup.driver to cgroupfs or auto, or run Keelson where systemd is PID 1 and D-Bus is installed.",
  },
  scopeFailed: {
    code: "Internal",
    sentence: "The scope {scope} was not started by systemd: {reason}.",
    remedy: "Check systemd's log for that unit (journalctl -b _PID=1).",
  },
  systemdLate: {
    code: "DeadlineExceeded",
    sentence: "The scope {scope} was not started by systemd within {seconds} s: {reason}.",
    remedy: "Check whether systemd and the system bus answer (busctl status), and what they are waiting for.",
  },
  apparmorDefault: {
    code: "FailedPrecondition",
    sentence: "The runtime's default AppArmor profile {profile} was requested, but is not loaded: {reason}.",
    remedy: "Install apparmor_parser (Debian: apparmor) and restart keelson, or run the container Unconfined.",
  },
  selinuxOption: {
    code: "InvalidArgument",
    sentence: "The SELinux {part} {value} of {object} cannot be used: {reason}.",
    remedy: "Use one from this host's policy (seinfo lists them), or leave it out to use the runtime's default.",
  },
  selinuxLabel: {
    code: "InvalidArgument",
    sentence: "The SELinux label {label} of {object} is not valid in this host's policy.",
    remedy:
      "Correct the SELinux options, or load a policy that defines their user, role, type and level (semodule -i).",
  },
  selinuxUnlabelled: {
    code: "FailedPrecondition",
    sentence: "The SELinux label {label} was requested for {object}, but this node cannot set labels: {reason}.",
    remedy:
      "Install a policy for containers (Fedora: container-selinux, Debian: selinux-policy-default), restart keelson and run the pod again, or leave out the SELinux options.",
  },
  selinuxHostPlace: {
    code: "InvalidArgument",
    sentence: "The mount of {source} at {target} cannot be relabelled: the path belongs to the host.",
    remedy: "Mount a directory that only the pod uses, or leave out selinux_relabel.",
  },
  selinuxRelabel: {
    code: "FailedPrecondition",
    sentence: "The mount of {source} at {target} cannot get the SELinux label {label}: {reason}.",
    remedy: "Label it by hand (chcon -R), or mount its file system with that label (mount -o context=).",
  },
  otherUsers: {
    code: "InvalidArgument",
    sentence: "The userns_options of container {container} differ from those of its pod sandbox {id}.",
    remedy: "Use the userns_options that the sandbox was run with, or leave them out.",
  },
  mountSource: {
    code: "InvalidArgument",
    sentence: "The mount of {source} at {target} cannot be set up: {reason}.",
    remedy: "Check that the host path exists and is readable.",
  },
  mountSourceSilent: {
    code: "Unavailable",
    sentence: "The mount of {source} at {target} cannot be set up: its file system has not answered for {seconds} s.",
    remedy: "Restore the volume's server, or delete the pod.",
  },
  mountNotShared: {
    code: "FailedPrecondition",
    sentence:
      "The mount of {source} at {target} needs {propagation} propagation, but its host mount point {point} is not shared.",
    remedy: "Make it shared at each boot (mount --make-rshared {point}).",
  },
  mountTarget: {
    code: "InvalidArgument",
    sentence: "The mount target {target} cannot be used: {reason}.",
    remedy: "Use an absolute path below the container's root.",
  },
  imageVolumeMissing: {
    code: "NotFound",
    sentence: "ImageVolumeMountFailed: the image {image} for the mount at {target} is not on this node.",
    remedy: "Pull it first.",
  },
  imageSubPathMissing: {
    code: "FailedPrecondition",
    sentence: "ImageVolumeMountFailed: the image {image} for the mount at {target} has no path {path}.",
    remedy: "Use a subpath that exists in the image.",
  },
  userNamespaceUnsupported: {
    code: "FailedPrecondition",
    sentence: "Pod {pod} needs a user namespace, which the runtime handler {handler} does not support on this node.",
    remedy:
      "Use the handler native on Linux 6.7 or newer with user.max_user_namespaces above 0, or set hostUsers: true.",
  },
  recursiveReadOnlyUnsupported: {
    code: "FailedPrecondition",
    sentence:
      "RROUnsupported: the mount at {target} must be recursively read-only, which the runtime handler {handler} does not support.",
    remedy: "Use the handler native, or recursiveReadOnly: IfPossible.",
  },
  namespaceTarget: {
    code: "InvalidArgument",
    sentence: "The PID namespace of container {target} cannot be joined: {reason}.",
    remedy: "Use the id of a running container of the same pod.",
  },
  deviceMissing: {
    code: "InvalidArgument",
    sentence: "The device {path} cannot be added to the container: {reason}.",
    remedy: "Use a device node of this host, or a directory of device nodes.",
  },
  deviceSilent: {
    code: "Unavailable",
    sentence: "The device {path} cannot be added to the container: its file system has not answered for {seconds} s.",
    remedy: "Restore the file system's server, or delete the pod.",
  },
  cdiUnsupported: {
    code: "Unimplemented",
    sentence: "CDI device {device} was requested, but this version does not support CDI.",
    remedy: "Pass the device nodes directly.",
  },
  memoryBelowUse: {
    code: "InvalidArgument",
    sentence: "Container {id} uses {used} bytes of memory, so its limit cannot become {limit}.",
    remedy: "Set a higher limit; the old one stays in force.",
  },
  swapBelowMemory: {
    code: "InvalidArgument",
    sentence: "The memory and swap limit of container {id} ({swap} bytes) is below its memory limit ({limit} bytes).",
    remedy: "Set memory_swap_limit_in_bytes to at least the memory limit, or to -1.",
  },
  updateFailed: {
    code: "Internal",
    sentence: "The resources of container {id} could not be updated: {reason}.",
    remedy: "The old resources stay in force; request values that this host's cgroups support.",
  },
  startFailed: {
    code: "Internal",
    sentence: "Container {id} could not be started: {reason}.",
    remedy: "Fix the step that failed and create a new container; this one is now exited with code 128.",
  },
  startStopped: {
    code: "Aborted",
    sentence: "The start of container {id} was aborted because the container is being stopped.",
    remedy: "Create a new container; this one is now exited with code 128.",
  },
  callerGone: {
    code: "Cancelled",
    sentence: "The caller gave up while the {step} of {object} was in progress.",
    remedy: "Retry: work that has begun continues, and the retry gets its result.",
  },
  apparmorUnknown: {
    code: "InvalidArgument",
    sentence: "The AppArmor profile {profile} is not loaded on this node.",
    remedy: "Load it (apparmor_parser -r), or use one listed in /sys/kernel/security/apparmor/profiles.",
  },
  checkpointUnable: {
    code: "Unimplemented",
    sentence: "Container {id} cannot be checkpointed: {reason}.",
    remedy:
      "Install a CRIU that works on this node's kernel (criu check shows whether it does), for example Debian 13's.",
  },
  checkpointTerminal: {
    code: "Unimplemented",
    sentence:
      "Container {id} has a terminal, and the criu command cannot dump a terminal whose other end is outside the container.",
    remedy: "Checkpoint only containers without a terminal (tty false).",
  },
  checkpointNowhere: {
    code: "InvalidArgument",
    sentence: "The checkpoint cannot be written to {location}: its directory does not exist.",
    remedy: "Create the directory, or use a path in another one.",
  },
  checkpointSilent: {
    code: "Unavailable",
    sentence: "The checkpoint cannot be written to {location}: its file system has not answered for {seconds} s.",
    remedy: "Restore the file system's server, or use a path on another file system.",
  },
  checkpointTaken: {
    code: "AlreadyExists",
    sentence: "The checkpoint cannot be written to {location}: the path already exists.",
    remedy: "Use a path that does not exist; checkpoints never overwrite anything.",
  },
  checkpointUnderway: {
    code: "Aborted",
    sentence: "Container {id} is already being checkpointed.",
    remedy: "Wait for that checkpoint, or cancel its call.",
  },
  checkpointStopped: {
    code: "Aborted",
    sentence: "The checkpoint of container {id} was aborted because the container is being stopped.",
    remedy: "Checkpoint a container before stopping it.",
  },
  checkpointLate: {
    code: "DeadlineExceeded",
    sentence:
      "The checkpoint of container {id} did not finish within {seconds} s and was aborted; the container keeps running.",
    remedy: "Allow more time: all of the container's memory and changed files are written to disk.",
  },
  checkpointGivenUp: {
    code: "Cancelled",
    sentence: "The caller gave up, so the checkpoint of container {id} was aborted; the container keeps running.",
    remedy: "Retry with a longer deadline.",
  },
  checkpointFailed: {
    code: "Internal",
    sentence: "The checkpoint of container {id} failed and the container keeps running: {reason}.",
    remedy: "Check what CRIU can dump (criu.org, What cannot be checkpointed), and whether the disk is full.",
  },
  busy: {
    code: "DeadlineExceeded",
    sentence: "The {object} is still busy with an earlier request ({step}).",
    remedy: "Retry; keelson status shows what it is waiting for, and since when.",
  },
  stepDeadline: {
    code: "DeadlineExceeded",
    sentence: "The {step} of {object} took longer than {seconds} s and was rolled back.",
    remedy: "Retry, and check with keelson status what it is waiting for.",
  },
  processesAlive: {
    code: "DeadlineExceeded",
    sentence: "Processes in the cgroup {cgroup} did not die within {seconds} s of SIGKILL.",
    remedy:
      "They are blocked in the kernel, usually on a volume whose server is down: restore it. If someone froze the cgroup or one above it, thaw it. Then retry.",
  },
  eventsUnread: {
    code: "ResourceExhausted",
    sentence: "The event stream was closed because its reader is {limit} events behind.",
    remedy: "Subscribe again, list the sandboxes and containers for what was missed, and read events as they arrive.",
  },
  outputBudget: {
    code: "ResourceExhausted",
    sentence: "The command in container {container} was killed: the budget for output had no room for {seconds} s.",
    remedy: "At most {limit} commands with large output run at once on a node; retry, or make the command print less.",
  },
  logPathless: {
    code: "FailedPrecondition",
    sentence: "Container {id} has no log file.",
    remedy: "Create the container with a log_path, in a sandbox with a log_directory.",
  },
  leaksUnknown: {
    code: "FailedPrecondition",
    sentence: "Leaks cannot be detected: {directory} cannot be read: {reason}.",
    remedy:
      "Run as root with the daemon's own --root and --state; if a disk is failing, the kernel log has the reason.",
  },
});
