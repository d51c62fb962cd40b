// Errors of the API edge, the configuration and startup, each with its gRPC code and its remedy.

import { catalogue } from "../native/index.ts";

export const criErrors = catalogue({
  undecodable: {
    code: "InvalidArgument",
    sentence: "The request of {method} is not a valid protobuf message: {reason}.",
    remedy: "Use a client that speaks CRI v1.",
  },
  fieldMissing: {
    code: "InvalidArgument",
    sentence: "{field} is missing.",
    remedy: "Set it to {wanted}.",
  },
  fieldInvalid: {
    code: "InvalidArgument",
    sentence: "{field} is {value}.",
    remedy: "Set it to {wanted}.",
  },
  fieldsConflict: {
    code: "InvalidArgument",
    sentence: "{field} cannot be combined with {other}.",
    remedy: "{remedy}",
  },
  privilegedInOrdinaryPod: {
    code: "InvalidArgument",
    sentence: "Container {container} requests privileged mode, but its pod sandbox {id} is not privileged.",
    remedy: "Set security_context.privileged in sandbox_config too, or create the container without it.",
  },
  notImplemented: {
    code: "Unimplemented",
    sentence: "Keelson {version} does not implement {method}.",
    remedy: "Avoid this call, or use a later version.",
  },
  noImageOfName: {
    code: "NotFound",
    sentence: "There is no image {image}.",
    remedy: "List the images with keelson image ls.",
  },
  metricsAddress: {
    code: "FailedPrecondition",
    sentence: "Metrics cannot be served at {address}: {reason}.",
    remedy: "Set metrics.address to an address of this host with a free port, or leave it out.",
  },
  streamingAddress: {
    code: "FailedPrecondition",
    sentence: "Exec, attach and port-forward cannot be served at {address}: {reason}.",
    remedy: "Set streaming.port to a free port, or to 0 for any; streaming.address must be an address of this host.",
  },
  tooManyStreams: {
    code: "ResourceExhausted",
    sentence: "{limit} streaming URLs are already waiting for their clients.",
    remedy: "Use one of them, or retry in a minute, when they have expired.",
  },
  nodeExhausted: {
    code: "ResourceExhausted",
    sentence: "{step} failed because of {what}: {reason}.",
    remedy: "{remedy}",
  },
  podLimit: {
    code: "ResourceExhausted",
    sentence: "{step} hit a kernel limit: {reason}.",
    remedy:
      "Free the resource it names (disk space, memory), or raise its limit (fs.file-max, kernel.pid_max, user.max_*_namespaces).",
  },
  unexpected: {
    code: "Internal",
    sentence: "{method} failed with an unexpected error: {reason}.",
    remedy: "The daemon's log has the details; please report them.",
  },
  responseTooLarge: {
    code: "ResourceExhausted",
    sentence: "The response to {method} is {size} bytes; the maximum message size is {limit} bytes.",
    remedy: "Narrow the request with a filter, or have the command print less.",
  },
  callCancelled: {
    code: "Cancelled",
    sentence: "The client cancelled {method} before it completed.",
    remedy: "Retry; unfinished work is rolled back or picked up by the retry.",
  },
  deadlinePassed: {
    code: "DeadlineExceeded",
    sentence: "{method} did not complete within the client's deadline.",
    remedy: "Retry; unfinished work is rolled back or picked up by the retry.",
  },
  stopping: {
    code: "Unavailable",
    sentence: "Keelson is stopping, so {method} was interrupted.",
    remedy: "Retry when it is running again; pods keep running.",
  },
  sessionIdle: {
    code: "DeadlineExceeded",
    sentence: "This {kind} session has been idle for {hours} h.",
    remedy: "Request a new one.",
  },
  socketLive: {
    code: "FailedPrecondition",
    sentence: "A server already answers on {path}.",
    remedy: "Stop that server first, or use another path (--socket).",
  },
  socketNotSocket: {
    code: "FailedPrecondition",
    sentence: "{path} exists and is not a socket, so it was not replaced.",
    remedy: "Move it away, or use another path (--socket).",
  },
  socketFailed: {
    code: "Internal",
    sentence: "Listening on {path} failed: {reason}.",
    remedy: "Check that the directory is writable and the path is at most 99 bytes long.",
  },
  socketNotInherited: {
    code: "InvalidArgument",
    sentence: "The sockets passed by the service manager cannot be used: {reason}.",
    remedy: "Give keelson.socket exactly one ListenStream=, the path of a Unix socket.",
  },
  socketElsewhere: {
    code: "InvalidArgument",
    sentence: "The service manager listens on {inherited}, but the configured socket is {configured}.",
    remedy:
      "Set ListenStream= to the configured path (systemctl edit keelson.socket), or disable and stop keelson.socket.",
  },
  directoryLocked: {
    code: "FailedPrecondition",
    sentence: "Another Keelson daemon{holder} is using {directory}.",
    remedy: "Stop it first, or give this daemon its own directories (--root and --state).",
  },
  directoryUnusable: {
    code: "FailedPrecondition",
    sentence: "The directory {directory} cannot be used: {reason}.",
    remedy: "Use writable directories (--root, --state), and run the daemon as root.",
  },
  configUnreadable: {
    code: "InvalidArgument",
    sentence: "The configuration file {file} cannot be read: {reason}.",
    remedy: "Check its path and permissions.",
  },
  configSyntax: {
    code: "InvalidArgument",
    sentence: "The configuration file {file} is not valid TOML: {reason}.",
    remedy: "Fix the syntax there; keelson config --default prints a valid file.",
  },
  configUnknownKey: {
    code: "InvalidArgument",
    sentence: "{file} sets the key {key}, which does not exist.",
    remedy: "{hint}",
  },
  configType: {
    code: "InvalidArgument",
    sentence: "{file} sets the key {key} to {value}.",
    remedy: "Set it to {wanted}.",
  },
  configOneDirectory: {
    code: "InvalidArgument",
    sentence: "The keys root and state are both {directory}.",
    remedy: "Give each its own directory: root on a disk, state on a file system that a reboot empties.",
  },
  configNativeHandler: {
    code: "InvalidArgument",
    sentence: "The key runtime.handlers.native would replace Keelson's own handler.",
    remedy: "Give the OCI runtime another name; runtime.default_handler can be set to it.",
  },
  usage: {
    code: "InvalidArgument",
    sentence: "{problem}.",
    remedy: "See {help}.",
  },
  interrupted: {
    code: "Unavailable",
    sentence: "Interrupted before completion; partial results are discarded.",
    remedy: "Run the command again; a pull resumes where it stopped.",
  },
  notRoot: {
    code: "PermissionDenied",
    sentence: "The command keelson {command} needs root but runs as uid {uid}.",
    remedy: "Run it with sudo.",
  },
  socketForbidden: {
    code: "PermissionDenied",
    sentence: "The socket {socket} is accessible to root only, not to uid {uid}.",
    remedy: "Run the command with sudo.",
  },
  daemonUnreachable: {
    code: "Unavailable",
    sentence: "No Keelson daemon answers on {socket}: {reason}.",
    remedy: "Start it (keelson serve), or name its socket (--socket).",
  },
  daemonWithoutCall: {
    code: "Unimplemented",
    sentence: "The server at {socket} is an older Keelson or another CRI server: {reason}.",
    remedy: "Restart Keelson after an upgrade, or name its socket (--socket).",
  },
  daemonSilent: {
    code: "DeadlineExceeded",
    sentence: "The Keelson daemon at {socket} has not answered for {seconds} s.",
    remedy: "Check its log (journalctl -u keelson); pods keep running when it is restarted.",
  },
  daemonGone: {
    code: "Unavailable",
    sentence: "The Keelson daemon at {socket} exited before it answered.",
    remedy: "Retry when it is running again; pods keep running.",
  },
  terminal: {
    code: "InvalidArgument",
    sentence: "An archive cannot be {what} a terminal.",
    remedy: "Name a file, or redirect - to a file or a pipe.",
  },
  fileUnwritten: {
    code: "FailedPrecondition",
    sentence: "{file} could not be written: {reason}.",
    remedy: "Free up space for it, or write elsewhere.",
  },
  blobsLetGo: {
    code: "DeadlineExceeded",
    sentence: "The images' blobs were kept for {seconds} s, but the caller did not report that it had opened them.",
    remedy: "Open them at once, end the call, and then read them.",
  },
  blobUnopened: {
    code: "FailedPrecondition",
    sentence: "{path} of the image could not be opened: {reason}.",
    remedy: "Save images on the daemon's own host, as root, and one at a time if too many files are open.",
  },
  blobChanged: {
    code: "FailedPrecondition",
    sentence: "{path} has {actual} bytes instead of {size}, so the archive is incomplete.",
    remedy: "Pull the image again.",
  },
  pathMissing: {
    code: "NotFound",
    sentence: "There is no file or directory {path}.",
    remedy: "Check the path.",
  },
});
