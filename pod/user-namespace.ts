// A pod's user namespace: whether it has one, its root's ids on the host, and the id mappings in config.json and
// sandbox.json form. Sources: user_namespaces(7); CRI v1 UserNamespace; OCI runtime spec, config-linux.md;
// native/PROTOCOL.md.

import { podErrors } from "./errors.ts";
import type { OciMappings } from "./spec/oci.ts";
import type { ContainerUser, IdMapping, IdMappings, NamespaceOptions } from "./types.ts";

/** The id mappings of a pod that has its own user namespace. */
export function userMappings({ user }: NamespaceOptions): IdMappings | undefined {
  return user?.mode === "pod" ? { uids: user.uids, gids: user.gids } : undefined;
}

/** The host ids of the pod's uid 0 and gid 0; without a user namespace, the host's root. */
export function hostRoot(mappings: IdMappings | undefined): { readonly uid: number; readonly gid: number } {
  return { uid: hostId(mappings?.uids, 0), gid: hostId(mappings?.gids, 0) };
}

function hostId(mappings: readonly IdMapping[] | undefined, id: number): number {
  const found = mappings?.find(({ containerId, length }) => id >= containerId && id < containerId + length);
  return found === undefined ? id : found.hostId + (id - found.containerId);
}

/** The kernel rejects ids without a mapping: no process can have them. */
export function refuseUnmapped({ uids, gids }: IdMappings, user: ContainerUser): void {
  refuse("user", uids, [user.uid]);
  refuse("group", gids, [user.gid, ...user.supplementalGroups]);
}

function refuse(kind: "user" | "group", mappings: readonly IdMapping[], ids: readonly bigint[]): void {
  const isMapped = (id: bigint) => mappings.some((mapping) => id >= mapping.containerId && id <= lastOf(mapping));
  const unmapped = ids.find((id) => !isMapped(id));
  if (unmapped === undefined) return;
  const ranges = mappings.map((mapping) => `from ${mapping.containerId} to ${lastOf(mapping)}`).join(", ");
  throw podErrors.idUnmapped({ kind, id: unmapped.toString(), ranges });
}

function lastOf({ containerId, length }: IdMapping): number {
  return containerId + length - 1;
}

/** In config.json form. */
export function ociMappings({ uids, gids }: IdMappings): OciMappings {
  const spell = (mappings: readonly IdMapping[]) =>
    mappings.map(({ containerId, hostId, length }) => ({ containerID: containerId, hostID: hostId, size: length }));
  return { uidMappings: spell(uids), gidMappings: spell(gids) };
}

/** In sandbox.json form. */
export function monitorMappings({ uids, gids }: IdMappings): object {
  const spell = (mappings: readonly IdMapping[]) =>
    mappings.map(({ containerId, hostId, length }) => ({ container: containerId, host: hostId, size: length }));
  return { uids: spell(uids), gids: spell(gids) };
}
