// Errors of the API edge, the configuration and start-up, each with its gRPC code and its remedy.

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
    sentence: "Container {container} is to be privileged, and its pod sandbox {id} is not for privileged containers.",
    remedy: "Say security_context.privileged in sandbox_config too, or make the container without.",
  },
  notImplemented: {
    code: "Unimplemented",
    sentence: "Keelson {version} does not implement {method}.",
    remedy: "Do without it, or use a later version.",
  },
  noImageOfName: {
    code: "NotFound",
    sentence: "There is no image {image}.",
    remedy: "List those that there are with keelson image ls.",
  },
  metricsAddress: {
    code: "FailedPrecondition",
    sentence: "Figures cannot be served at {address}: {reason}.",
    remedy: "Set metrics.address to an address of this host with a free port, or leave it out.",
  },
  streamingAddress: {
    code: "FailedPrecondition",
    sentence: "Exec, attach and port-forward cannot be served at {address}: {reason}.",
    remedy: "Set streaming.port to a free port, or to 0 for any; streaming.address is to be one of this host's.",
  },
  tooManyStreams: {
    code: "ResourceExhausted",
    sentence: "{limit} streaming URLs are waiting for their clients already.",
    remedy: "Use one of them, or ask again in a minute, when they have expired.",
  },
  nodeExhausted: {
    code: "ResourceExhausted",
    sentence: "{step} met {what}: {reason}.",
    remedy: "{remedy}",
  },
  podLimit: {
    code: "ResourceExhausted",
    sentence: "{step} met a limit of the kernel: {reason}.",
    remedy:
      "Free what it names: room on a disk, memory, or a limit such as fs.file-max, kernel.pid_max or user.max_*_namespaces.",
  },
  unexpected: {
    code: "Internal",
    sentence: "{method} failed with an unexpected error: {reason}.",
    remedy: "The daemon's log has the details; please report them.",
  },
  responseTooLarge: {
    code: "ResourceExhausted",
    sentence: "The answer to {method} has {size} bytes and a message may have {limit}.",
    remedy: "Narrow the request down with a filter, or let the command print less.",
  },
  callCancelled: {
    code: "Cancelled",
    sentence: "The client cancelled {method} before it ended.",
    remedy: "Ask again; what was in progress is undone or handed to the retry.",
  },
  deadlinePassed: {
    code: "DeadlineExceeded",
    sentence: "{method} did not end within the client's deadline.",
    remedy: "Ask again; what was in progress is undone or handed to the retry.",
  },
  stopping: {
    code: "Unavailable",
    sentence: "Keelson is stopping, so {method} ends here.",
    remedy: "Ask again when it is back; pods run on.",
  },
  sessionIdle: {
    code: "DeadlineExceeded",
    sentence: "No byte has moved in this {kind} for {hours} h.",
    remedy: "Ask for another one.",
  },
  socketLive: {
    code: "FailedPrecondition",
    sentence: "A server already answers on {path}.",
    remedy: "Stop that one first, or give this one a path of its own (--socket).",
  },
  socketNotSocket: {
    code: "FailedPrecondition",
    sentence: "{path} exists and is no socket, so it is left alone.",
    remedy: "Move it away, or give another path (--socket).",
  },
  socketFailed: {
    code: "Internal",
    sentence: "Listening on {path} failed: {reason}.",
    remedy: "Check that the directory can be written to and the path is at most 99 bytes long.",
  },
  socketNotInherited: {
    code: "InvalidArgument",
    sentence: "The sockets that the service manager passed cannot be served on: {reason}.",
    remedy: "Give keelson.socket one ListenStream=, the path of a unix socket.",
  },
  socketElsewhere: {
    code: "InvalidArgument",
    sentence: "The service manager listens on {inherited}, and the configuration's socket is {configured}.",
    remedy: "Set ListenStream= to that (systemctl edit keelson.socket), or disable and stop keelson.socket.",
  },
  directoryLocked: {
    code: "FailedPrecondition",
    sentence: "Another Keelson{holder} works on {directory}.",
    remedy: "Stop it first, or give this one directories of its own (--root and --state).",
  },
  directoryUnusable: {
    code: "FailedPrecondition",
    sentence: "The directory {directory} cannot be used: {reason}.",
    remedy: "Give directories that can be written to (--root, --state); the daemon has to run as root.",
  },
  configUnreadable: {
    code: "InvalidArgument",
    sentence: "The configuration file {file} cannot be read: {reason}.",
    remedy: "Check its path and permissions.",
  },
  configSyntax: {
    code: "InvalidArgument",
    sentence: "The configuration file {file} is not TOML: {reason}.",
    remedy: "Correct it there; keelson config --default prints a valid one.",
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
    remedy: "Give each a directory of its own: root one on a disk, state one that a reboot empties.",
  },
  configNativeHandler: {
    code: "InvalidArgument",
    sentence: "The key runtime.handlers.native would take the place of Keelson's own handler.",
    remedy: "Give the OCI runtime another name; runtime.default_handler may be that.",
  },
  usage: {
    code: "InvalidArgument",
    sentence: "{problem}.",
    remedy: "See {help}.",
  },
  interrupted: {
    code: "Unavailable",
    sentence: "Interrupted before it was done; half a result is not kept.",
    remedy: "Give the command again; a pull goes on where it was.",
  },
  notRoot: {
    code: "PermissionDenied",
    sentence: "The command keelson {command} needs root and runs as uid {uid}.",
    remedy: "Run it with sudo.",
  },
  socketForbidden: {
    code: "PermissionDenied",
    sentence: "The socket {socket} may not be used by uid {uid}; it is root's.",
    remedy: "Run the command with sudo.",
  },
  daemonUnreachable: {
    code: "Unavailable",
    sentence: "No Keelson answers on {socket}: {reason}.",
    remedy: "Start it (keelson serve), or name its socket (--socket).",
  },
  daemonWithoutCall: {
    code: "Unimplemented",
    sentence: "The server at {socket} is an older Keelson or another CRI server: {reason}.",
    remedy: "Restart Keelson after an upgrade, or name its socket (--socket).",
  },
  daemonSilent: {
    code: "DeadlineExceeded",
    sentence: "The Keelson at {socket} has not answered for {seconds} s.",
    remedy: "Look at its log (journalctl -u keelson); pods run on when it is started again.",
  },
  daemonGone: {
    code: "Unavailable",
    sentence: "The Keelson at {socket} ended before it had answered.",
    remedy: "Ask again when it is back; pods run on.",
  },
  terminal: {
    code: "InvalidArgument",
    sentence: "An archive is not {what} a terminal.",
    remedy: "Name a file, or connect - with a file or a pipe.",
  },
  fileUnwritten: {
    code: "FailedPrecondition",
    sentence: "{file} could not be written: {reason}.",
    remedy: "Make room for it, or write elsewhere.",
  },
  blobsLetGo: {
    code: "DeadlineExceeded",
    sentence: "The images' blobs were kept for {seconds} s, and the caller has not said that it had opened them.",
    remedy: "Open them at once, end the call, and then read them.",
  },
  blobUnopened: {
    code: "FailedPrecondition",
    sentence: "{path} of the image could not be opened: {reason}.",
    remedy: "Save images on the daemon's own host, as root, one by one if there are too many files.",
  },
  blobChanged: {
    code: "FailedPrecondition",
    sentence: "{path} has {actual} bytes and not {size}, so the archive is not whole.",
    remedy: "Pull the image again.",
  },
  pathMissing: {
    code: "NotFound",
    sentence: "There is no file or directory {path}.",
    remedy: "Check the path.",
  },
});
