// Every error of the pod network, with its gRPC code and what to do about it.

import { catalogue } from "../native/client/errors.ts";

export const cniErrors = catalogue({
  networkNotReady: {
    code: "Unavailable",
    sentence: "Pod {namespace}/{name} cannot be attached to a network: {reason}.",
    remedy: "Fix the cause, or run the pod on the host's network; the directory is watched, so no restart is needed.",
  },
  pluginMissing: {
    code: "FailedPrecondition",
    sentence: "CNI plugin {plugin} of network {network} is not an executable file in any of {directories}.",
    remedy: "Install the plugin there, or correct the plugin directories in Keelson's configuration.",
  },
  pluginNotStarted: {
    code: "Internal",
    sentence: "CNI plugin {path} could not be started for {command}: {reason}.",
    remedy: "Check that the file is an executable for this machine's architecture.",
  },
  pluginFailed: {
    code: "Internal",
    sentence: "CNI plugin {plugin} failed {command} with code {pluginCode}: {reason}.",
    remedy: "The message is the plugin's own; see the plugin's documentation.",
  },
  pluginBusy: {
    code: "Unavailable",
    sentence: "CNI plugin {plugin} is temporarily unable to run {command}: {reason}.",
    remedy: "Retry later; if the error persists, see the plugin's documentation.",
  },
  pluginDied: {
    code: "Internal",
    sentence: "CNI plugin {plugin} failed {command} without a CNI error object: it {how} and wrote {output}.",
    remedy: "Run the plugin by hand with the network's configuration to find the cause.",
  },
  pluginBabbled: {
    code: "Internal",
    sentence: "CNI plugin {plugin} returned an invalid CNI result for {command}: {reason}.",
    remedy: "Check that the file is a CNI plugin and supports the cniVersion of the configuration.",
  },
  pluginTooLoud: {
    code: "ResourceExhausted",
    sentence: "CNI plugin {plugin} wrote more than {limit} bytes for {command} and was killed.",
    remedy: "No valid CNI result is that long: fix or replace the plugin.",
  },
  pluginTimedOut: {
    code: "DeadlineExceeded",
    sentence: "CNI plugin {plugin} did not finish {command} within {seconds} s and was killed.",
    remedy: "Check what the plugin is waiting for (its own daemon, a lock, an address server).",
  },
  cancelled: {
    code: "Cancelled",
    sentence: "CNI {command} for sandbox {sandboxId} was cancelled by its caller.",
    remedy: "What it had set up is rolled back; retry the request.",
  },
  stopping: {
    code: "Unavailable",
    sentence: "The pod network is closed because keelson is stopping.",
    remedy: "Retry once keelson is running again; it picks up what was in progress.",
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
      "Pod {namespace}/{name} cannot be attached to a network: {count} earlier sandboxes could not be detached: {reason}.",
    remedy: "Fix the cause; the next attempt detaches them first.",
  },
  badSandboxId: {
    code: "InvalidArgument",
    sentence: "Sandbox id {sandboxId} is not a valid CNI container id.",
    remedy: "Use letters, digits, '_', '.' and '-', starting with a letter or digit.",
  },
  badArgument: {
    code: "InvalidArgument",
    sentence: "The pod's {field} {value} cannot be passed to CNI plugins: it contains ';', '=' or a control character.",
    remedy: "Use a valid Kubernetes name.",
  },
  badBandwidth: {
    code: "InvalidArgument",
    sentence:
      "Annotation {annotation} of pod {namespace}/{name} is {value}, not a rate between 1k and 1P bits per second.",
    remedy: "Write it as a Kubernetes quantity, such as 10M.",
  },
  badPodCidr: {
    code: "InvalidArgument",
    sentence: "Pod CIDR {cidr} cannot be used: {reason}.",
    remedy: "Specify one IPv4 subnet, one IPv6 subnet, or one of each, such as 10.88.0.0/16.",
  },
  leaseNotWritten: {
    code: "Internal",
    sentence: "The network lease of sandbox {sandboxId} could not be written to {path}: {reason}.",
    remedy: "Addresses could leak without it, so the pod was not attached; free space or repair the file system.",
  },
});
