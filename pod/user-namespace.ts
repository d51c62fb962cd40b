// A pod's user namespace: whether it has one, who its root is on the host, and how config.json and sandbox.json spell
// id mappings. Sources: user_namespaces(7); CRI v1 UserNamespace; OCI runtime spec, config-linux.md; native/PROTOCOL.md.

import type { OciMappings } from "./spec/oci.ts";
import type { IdMapping, IdMappings, NamespaceOptions } from "./types.ts";

/** The maps of a pod that has a user namespace of its own. */
export function userMappings({ user }: NamespaceOptions): IdMappings | undefined {
  return user?.mode === "pod" ? { uids: user.uids, gids: user.gids } : undefined;
}

/** The host's ids of the pod's uid 0 and gid 0; the host's root without a user namespace. */
export function hostRoot(mappings: IdMappings | undefined): { readonly uid: number; readonly gid: number } {
  return { uid: hostId(mappings?.uids, 0), gid: hostId(mappings?.gids, 0) };
}

function hostId(mappings: readonly IdMapping[] | undefined, id: number): number {
  const found = mappings?.find(({ containerId, length }) => id >= containerId && id < containerId + length);
  return found === undefined ? id : found.hostId + (id - found.containerId);
}

/** As config.json has them. */
export function ociMappings({ uids, gids }: IdMappings): OciMappings {
  const spell = (mappings: readonly IdMapping[]) =>
    mappings.map(({ containerId, hostId, length }) => ({ containerID: containerId, hostID: hostId, size: length }));
  return { uidMappings: spell(uids), gidMappings: spell(gids) };
}

/** As sandbox.json has them. */
export function monitorMappings({ uids, gids }: IdMappings): object {
  const spell = (mappings: readonly IdMapping[]) =>
    mappings.map(({ containerId, hostId, length }) => ({ container: containerId, host: hostId, size: length }));
  return { uids: spell(uids), gids: spell(gids) };
}
