// What a plugin gets about the pod: CNI_ARGS, and `runtimeConfig` for the capabilities it requests.
//
// Conventions: containernetworking/cni CONVENTIONS.md; the bandwidth annotations are those of Kubernetes
// (concepts/extend-kubernetes/compute-storage-net/network-plugins, "Support traffic shaping").

import { asObject, type Json, type JsonObject, member } from "../native/index.ts";
import { cniErrors } from "./errors.ts";
import type { PodNetwork } from "./types.ts";

/** Builds CNI_ARGS. Throws `badArgument` for a value that could be parsed as another argument. */
export function cniArgs(pod: PodNetwork): string {
  const values = [
    ["K8S_POD_NAMESPACE", "namespace", pod.namespace],
    ["K8S_POD_NAME", "name", pod.name],
    ["K8S_POD_INFRA_CONTAINER_ID", "sandbox id", pod.sandboxId],
    ["K8S_POD_UID", "uid", pod.uid],
  ] as const;
  const args = values.map(([key, field, value]) => {
    if (/[;=\p{Cc}]/u.test(value)) throw cniErrors.badArgument({ field, value: JSON.stringify(value) });
    return `${key}=${value}`;
  });
  return ["IgnoreUnknown=1", ...args].join(";");
}

/** The pod named in CNI_ARGS, as `namespace/name`. */
export function podOf(args: string): string {
  const values = new Map(args.split(";").map((pair) => [pair.split("=")[0], pair.split("=")[1] ?? ""]));
  return `${values.get("K8S_POD_NAMESPACE") ?? ""}/${values.get("K8S_POD_NAME") ?? ""}`;
}

/** The part of CNI_ARGS that identifies the pod, the same for all of its sandboxes. */
export function podKey(args: string): string {
  const pairs = args.split(";").filter((pair) => !pair.startsWith("K8S_POD_INFRA_CONTAINER_ID="));
  return pairs.join(";");
}

/** Every capability for which this pod has a value. Throws `badBandwidth`. */
export function podCapabilities(pod: PodNetwork): JsonObject {
  const bandwidth = bandwidthOf(pod);
  // Kubernetes also lists ports that are not mapped to the host, with host port 0.
  const portMappings = pod.portMappings
    .filter(({ hostPort }) => hostPort > 0)
    .map(({ hostPort, containerPort, protocol, hostIp }) => ({
      hostPort,
      containerPort,
      protocol,
      ...(hostIp === "" ? {} : { hostIP: hostIp }),
    }));
  const { servers, searches, options } = pod.dns;
  return {
    ...(portMappings.length > 0 ? { portMappings } : {}),
    ...(servers.length + searches.length + options.length > 0 ? { dns: { servers, searches, options } } : {}),
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(pod.cgroupParent === "" ? {} : { cgroupPath: pod.cgroupParent }),
    "io.kubernetes.cri.pod-annotations": Object.fromEntries(pod.annotations),
  };
}

/** The subset of the pod's capabilities that this plugin's configuration enables. */
export function runtimeConfigOf(plugin: JsonObject, capabilities: JsonObject): JsonObject {
  const wanted = asObject(member(plugin, "capabilities")) ?? {};
  return Object.fromEntries(Object.entries(capabilities).filter(([name]) => member(wanted, name) === true));
}

const ingressAnnotation = "kubernetes.io/ingress-bandwidth";
const egressAnnotation = "kubernetes.io/egress-bandwidth";
/** In bits. The bandwidth plugin requires a burst; this is the largest that it and the kernel's tbf always accept. */
const unlimitedBurst = 2 ** 31 - 1;

function bandwidthOf(pod: PodNetwork): Json | undefined {
  const ingress = rateOf(pod, ingressAnnotation);
  const egress = rateOf(pod, egressAnnotation);
  if (ingress === undefined && egress === undefined) return undefined;
  return {
    ...(ingress === undefined ? {} : { ingressRate: ingress, ingressBurst: unlimitedBurst }),
    ...(egress === undefined ? {} : { egressRate: egress, egressBurst: unlimitedBurst }),
  };
}

/** Bits per second. */
function rateOf(pod: PodNetwork, annotation: string): number | undefined {
  const value = pod.annotations.get(annotation);
  if (value === undefined) return undefined;
  const rate = parseQuantity(value);
  if (rate === undefined || rate < 1e3 || rate > 1e15)
    throw cniErrors.badBandwidth({
      annotation,
      value: JSON.stringify(value),
      namespace: pod.namespace,
      name: pod.name,
    });
  return Math.ceil(rate);
}

const multipliers = new Map([
  ["m", 1e-3],
  ["", 1],
  ["k", 1e3],
  ["M", 1e6],
  ["G", 1e9],
  ["T", 1e12],
  ["P", 1e15],
  ["Ki", 2 ** 10],
  ["Mi", 2 ** 20],
  ["Gi", 2 ** 30],
  ["Ti", 2 ** 40],
]);

/** Parses a Kubernetes quantity (apimachinery resource.Quantity), limited to forms that make sense for a rate. */
function parseQuantity(text: string): number | undefined {
  const parts = /^\+?(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,2})|(m|k|M|G|T|P|Ki|Mi|Gi|Ti)?)$/.exec(text);
  if (parts === null) return undefined;
  const [, mantissa, exponent, suffix] = parts;
  if (exponent !== undefined) return Number(`${mantissa}e${exponent}`);
  return Number(mantissa) * (multipliers.get(suffix ?? "") ?? Number.NaN);
}
