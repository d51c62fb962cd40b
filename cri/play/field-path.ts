// The downward API: fields of the pod that a container's environment may refer to.

import type { PodTemplate } from "./manifest.ts";

export interface PodFacts {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly nodeName: string;
  /** The pod's addresses; the first is the main one. */
  readonly podIps: readonly string[];
  readonly hostIps: readonly string[];
}

type Read = (facts: PodFacts) => string;

const fields: ReadonlyMap<string, Read> = new Map<string, Read>([
  ["metadata.name", ({ name }) => name],
  ["metadata.namespace", ({ namespace }) => namespace],
  ["metadata.uid", ({ uid }) => uid],
  ["spec.nodeName", ({ nodeName }) => nodeName],
  // There are no service accounts; this is the default in a cluster.
  ["spec.serviceAccountName", () => "default"],
  ["status.podIP", ({ podIps }) => podIps[0] ?? ""],
  ["status.podIPs", ({ podIps }) => podIps.join(",")],
  ["status.hostIP", ({ hostIps }) => hostIps[0] ?? ""],
  ["status.hostIPs", ({ hostIps }) => hostIps.join(",")],
]);

/** metadata.labels['key'] and metadata.annotations['key']. */
const subscript = /^metadata\.(labels|annotations)\['([^']+)'\]$/;

export function isFieldPath(path: string): boolean {
  return fields.has(path) || subscript.test(path);
}

export function readField(
  path: string,
  facts: PodFacts,
  template: Pick<PodTemplate, "labels" | "annotations">,
): string {
  const [, map, key] = subscript.exec(path) ?? [];
  if (map === undefined || key === undefined) return fields.get(path)?.(facts) ?? "";
  const { labels, annotations } = template;
  return (map === "labels" ? labels : annotations)[key] ?? "";
}
