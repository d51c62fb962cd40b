// SELinux labels of pods and containers, as in other runtimes: the policy's container label with a unique pair of
// categories per pod, so that the policy isolates pods from each other. Parts given in the request take precedence.
//
// Not confined are privileged containers, and those that share the host's PID or IPC namespace unless they request a
// label. They start without one, and the policy decides their label (CRI v1, privileged: label=disabled).
// On a kernel without SELinux, requested labels are ignored, because pods may set them for other nodes (as specs of
// Kubernetes' conformance suite do).

import { randomInt } from "node:crypto";
import { podErrors } from "../errors.ts";
import type { ContainerConfig, SandboxConfig } from "../types.ts";
import { isAsked, type Label, labelText, parseLabel, withOptions } from "./selinux-label.ts";
import { type ContainerPolicy, type Selinux, withCategories } from "./selinux-policy.ts";

/** Recorded with the pod and passed on to its containers. */
export interface PodLabels {
  readonly process: string;
  /** For the pod's mounts. */
  readonly mount: string;
}

export interface ContainerLabels {
  /** Absent: not confined. */
  readonly process?: string;
  readonly mount?: string;
}

/** Other container engines use this level for files of privileged containers. */
const reservedLevel = "s0:c1022,c1023";
const categories = 1024;

/** Undefined when the pod gets no labels. `taken` are the levels of the other pods of this node. */
export function choosePodLabels(
  selinux: Selinux,
  config: SandboxConfig,
  taken: Iterable<string>,
  random = () => randomInt(categories),
): PodLabels | undefined {
  const object = `pod ${config.metadata.name}`;
  const options = config.security.selinux;
  if (selinux.kind !== "on") {
    if (!config.security.privileged) refuseWithoutPolicy(selinux, options, object);
    return undefined;
  }
  const own = selinux.hasCategories && !options?.level ? ownCategories(selinux, taken, random) : selinux.process;
  const process = withOptions(own, options, object);
  return { process: labelText(process), mount: labelText(fileLabel(selinux.file, process, options?.user)) };
}

/** Throws InvalidArgument for options that result in a label which is not valid in the policy. */
export async function containerLabels(
  selinux: Selinux,
  pod: { readonly labels?: PodLabels | undefined; readonly config: SandboxConfig },
  config: ContainerConfig,
): Promise<ContainerLabels> {
  const object = `container ${config.metadata.name}`;
  const { selinux: options, privileged, namespaces } = config.security;
  const process = parseLabel(pod.labels?.process ?? "");
  const mount = parseLabel(pod.labels?.mount ?? "");
  if (selinux.kind !== "on" || process === undefined || mount === undefined) {
    if (!privileged) refuseWithoutPolicy(selinux, options, object);
    return {};
  }
  const isAskedFor = isAsked(options) || isAsked(pod.config.security.selinux);
  const sharesHost = [namespaces, pod.config.security.namespaces].some(
    ({ pid, ipc }) => pid === "node" || ipc === "node",
  );
  if (privileged || (sharesHost && !isAskedFor)) return { mount: labelText(mount) };
  const own = withOptions(process, options, object);
  const labels = { process: labelText(own), mount: labelText(fileLabel(mount, own, options?.user)) };
  return await known(selinux, labels, object);
}

/** Returns the labels in the kernel's canonical form. Throws InvalidArgument for labels that are not valid. */
export async function known(selinux: Selinux, labels: PodLabels, object: string): Promise<PodLabels> {
  if (selinux.kind !== "on") return labels;
  const canonical = async (label: string) => {
    const found = await selinux.canonical(label);
    if (found === undefined) throw podErrors.selinuxLabel({ label, object });
    return found;
  };
  return { process: await canonical(labels.process), mount: await canonical(labels.mount) };
}

/** The label of a pod's or container's files: with the level of its processes, and their user if requested. */
function fileLabel(file: Label, { level }: Label, user: string | undefined): Label {
  return { ...file, user: user || file.user, level: file.level === "" ? "" : level };
}

function ownCategories({ process }: ContainerPolicy, levels: Iterable<string>, random: () => number): Label {
  const taken = new Set([reservedLevel]);
  for (const level of levels) taken.add(inOrder(level));
  // There are half a million pairs, and a node has a few hundred pods.
  for (;;) {
    const [one, other] = [random(), random()];
    const label = withCategories(process, one, other);
    if (one !== other && !taken.has(label.level)) return label;
  }
}

/** Sorts a pair of categories as `withCategories` does; other levels are returned unchanged. */
function inOrder(level: string): string {
  const pair = /^(s\d+):c(\d+),c(\d+)$/.exec(level);
  if (pair === null) return level;
  const [low, high] = [Number(pair[2]), Number(pair[3])].toSorted((a, b) => a - b);
  return `${pair[1]}:c${low},c${high}`;
}

function refuseWithoutPolicy(selinux: Selinux, options: SandboxConfig["security"]["selinux"], object: string): void {
  if (selinux.kind === "off" || !isAsked(options)) return;
  const { user, role, type, level } = options;
  const reason = selinux.kind === "unlabelled" ? selinux.reason : "its pod was started by a keelson that set no labels";
  throw podErrors.selinuxUnlabelled({ label: [user, role, type, level].join(":"), object, reason });
}
