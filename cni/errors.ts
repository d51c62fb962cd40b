// Every error of the network, with its gRPC code and what to do about it.

import { catalogue } from "../native/client/errors.ts";

export const cniErrors = catalogue({
  networkNotReady: {
    code: "Unavailable",
    sentence: "Pod {namespace}/{name} cannot be attached to a network: {reason}.",
    remedy: "Put that right, or give the pod the node's network; the directory is watched, no restart is needed.",
  },
  pluginMissing: {
    code: "FailedPrecondition",
    sentence: "CNI plugin {plugin} of network {network} is not an executable file in any of {directories}.",
    remedy: "Install the plugin there, or correct the plugin directories in Keelson's configuration.",
  },
  pluginNotStarted: {
    code: "Internal",
    sentence: "CNI plugin {path} could not be started for {command}: {reason}.",
    remedy: "Check that the file is a program for this machine.",
  },
  pluginFailed: {
    code: "Internal",
    sentence: "CNI plugin {plugin} failed {command} with code {pluginCode}: {reason}.",
    remedy: "The words are the plugin's own; its documentation explains them.",
  },
  pluginBusy: {
    code: "Unavailable",
    sentence: "CNI plugin {plugin} asks to try {command} again later: {reason}.",
    remedy: "It should pass; if not, the plugin's documentation explains its words.",
  },
  pluginDied: {
    code: "Internal",
    sentence: "CNI plugin {plugin} ended {command} {how} without an error message in CNI's form; it wrote {output}.",
    remedy: "Run the plugin by hand with the network's configuration to see why.",
  },
  pluginBabbled: {
    code: "Internal",
    sentence: "CNI plugin {plugin} answered {command} with what is no CNI result: {reason}.",
    remedy: "Check that the file is a CNI plugin and speaks the cniVersion of the configuration.",
  },
  pluginTooLoud: {
    code: "ResourceExhausted",
    sentence: "CNI plugin {plugin} wrote more than {limit} bytes for {command} and was killed.",
    remedy: "No CNI result is that long: replace the plugin.",
  },
  pluginTimedOut: {
    code: "DeadlineExceeded",
    sentence: "CNI plugin {plugin} did not finish {command} within {seconds} s and was killed.",
    remedy: "See what it waits for (its own daemon, a lock, an address server).",
  },
  cancelled: {
    code: "Cancelled",
    sentence: "CNI {command} for sandbox {sandboxId} was given up by its caller.",
    remedy: "What was made is taken back; ask again.",
  },
  stopping: {
    code: "Unavailable",
    sentence: "The network is closed: keelson stops.",
    remedy: "The next keelson takes up what was begun; ask it.",
  },
  noAddress: {
    code: "Internal",
    sentence: "Network {network} gave sandbox {sandboxId} no address on {interfaceName}.",
    remedy: "A pod needs one: configure an IPAM plugin for the network.",
  },
  alreadyAttached: {
    code: "FailedPrecondition",
    sentence: "Sandbox {sandboxId} already has a network lease, in state {state}.",
    remedy: "Detach it first: CNI forbids a second ADD.",
  },
  earlierNotDetached: {
    code: "Unavailable",
    sentence:
      "Pod {namespace}/{name} is not attached to a network once more: {count} earlier sandboxes of it cannot be detached: {reason}.",
    remedy: "Put that right: the next try detaches them first.",
  },
  badSandboxId: {
    code: "InvalidArgument",
    sentence: "Sandbox id {sandboxId} is no CNI container id.",
    remedy: "Use letters, digits, '_', '.' and '-', the first a letter or digit.",
  },
  badArgument: {
    code: "InvalidArgument",
    sentence:
      "The pod's {field} {value} cannot be handed to CNI plugins: it has one of the characters ; = or a control character.",
    remedy: "Use a Kubernetes name.",
  },
  badBandwidth: {
    code: "InvalidArgument",
    sentence:
      "Annotation {annotation} of pod {namespace}/{name} is {value}, which is no rate between 1k and 1P bits per second.",
    remedy: "Write it as a Kubernetes quantity, such as 10M.",
  },
  badPodCidr: {
    code: "InvalidArgument",
    sentence: "Pod CIDR {cidr} cannot be used: {reason}.",
    remedy: "Give one IPv4 subnet, one IPv6 subnet, or one of each, such as 10.88.0.0/16.",
  },
  leaseNotWritten: {
    code: "Internal",
    sentence: "The network lease of sandbox {sandboxId} could not be written to {path}: {reason}.",
    remedy: "Without it addresses could leak, so nothing was attached; make room or repair the file system.",
  },
});
