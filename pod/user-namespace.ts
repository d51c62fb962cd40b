// A pod's user namespace: whether it has one, and who its root is on the host.
// Sources: user_namespaces(7); CRI v1 UserNamespace.

import type { IdMapping, NamespaceOptions } from "./types.ts";

export interface IdMappings {
  readonly uids: readonly IdMapping[];
  readonly gids: readonly IdMapping[];
}

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
