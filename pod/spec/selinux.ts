// The SELinux labels of pods and containers, as in the field: the policy's label for containers with a pair of categories
// that no other pod has, so that the policy keeps pods from each other; parts that the request names come first.
//
// Not confined: privileged containers, and those that share the host's processes or IPC unless they name a label. They
// start without one, and the policy decides what they become (CRI v1, privileged: label=disabled).
// A kernel without SELinux confines nothing by labels, whatever the runtime, and pods that carry them for other nodes run
// (specs of Kubernetes' conformance suite do so).

import { randomInt } from "node:crypto";
import { podErrors } from "../errors.ts";
import type { ContainerConfig, SandboxConfig } from "../types.ts";
import { isAsked, type Label, labelText, parseLabel, withOptions } from "./selinux-label.ts";
import { type ContainerPolicy, type Selinux, withCategories } from "./selinux-policy.ts";

/** As recorded with the pod, and passed on to its containers. */
export interface PodLabels {
  readonly process: string;
  /** Of what is mounted for it. */
  readonly mount: string;
}

export interface ContainerLabels {
  /** Absent: not confined. */
  readonly process?: string;
  readonly mount?: string;
}

/** Other container engines give it to the files of privileged containers. */
const takenByField = "s0:c1022,c1023";
const categories = 1024;

/** Undefined where there are none to give. `taken` are the levels of the other pods of this node. */
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

/** Throws InvalidArgument for options that make a label which the policy does not know. */
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

/** As the kernel spells them, which is how it answers with them. Throws InvalidArgument for those it does not know. */
export async function known(selinux: Selinux, labels: PodLabels, object: string): Promise<PodLabels> {
  if (selinux.kind !== "on") return labels;
  const canonical = async (label: string) => {
    const found = await selinux.canonical(label);
    if (found === undefined) throw podErrors.selinuxLabel({ label, object });
    return found;
  };
  return { process: await canonical(labels.process), mount: await canonical(labels.mount) };
}

/** Of a pod's or container's files: its processes' level and, where one is named, their user. */
function fileLabel(file: Label, { level }: Label, user: string | undefined): Label {
  return { ...file, user: user || file.user, level: file.level === "" ? "" : level };
}

function ownCategories({ process }: ContainerPolicy, levels: Iterable<string>, random: () => number): Label {
  const taken = new Set([takenByField]);
  for (const level of levels) taken.add(inOrder(level));
  // Half a million pairs, and a node has some hundreds of pods.
  for (;;) {
    const [one, other] = [random(), random()];
    const label = withCategories(process, one, other);
    if (one !== other && !taken.has(label.level)) return label;
  }
}

/** A pair of categories in the order in which we choose them; other levels as they are. */
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
