// The security contexts of sandboxes and containers: namespaces, users, profiles.

import type {
  ContainerSecurity,
  IdMapping,
  NamespaceOptions,
  SandboxSecurity,
  SecurityProfile,
  SelinuxOptions,
  UserNamespace,
} from "../../pod/types.ts";
import { criErrors } from "../errors.ts";
import {
  absolutePath,
  bigIntWithin,
  enumName,
  intWithin,
  invalid,
  plainText,
  present,
  requiredText,
} from "./decode-fields.ts";
import type { runtime } from "./generated/messages.js";

const namespaceModes = ["pod", "container", "node", "target"] as const;
const groupPolicies = ["merge", "strict"] as const;
const profileTypes = ["runtime-default", "unconfined", "localhost"] as const;
/** The kernel takes 2³²-1 as "unchanged". */
const highestId = 2n ** 32n - 2n;

type Messages = {
  sandbox: runtime.v1.LinuxSandboxSecurityContext.$Properties;
  container: runtime.v1.LinuxContainerSecurityContext.$Properties;
  namespaces: runtime.v1.NamespaceOption.$Properties;
  user: runtime.v1.UserNamespace.$Properties;
  mapping: runtime.v1.IDMapping.$Properties;
  profile: runtime.v1.SecurityProfile.$Properties;
  selinux: runtime.v1.SELinuxOption.$Properties;
};

export function decodeSandboxSecurity(message: Messages["sandbox"] | null | undefined, field: string): SandboxSecurity {
  const context = message ?? {};
  return {
    ...commonSecurity(context, context.runAsUser !== null && context.runAsUser !== undefined, field),
    namespaces: decodeNamespaces(context.namespaceOptions, "sandbox", `${field}.namespace_options`),
    ...present(decodeProfile(context.apparmor, undefined, `${field}.apparmor`, "name"), (apparmor) => ({ apparmor })),
  };
}

export function decodeContainerSecurity(
  message: Messages["container"] | null | undefined,
  field: string,
): ContainerSecurity {
  const context = message ?? {};
  const byId = context.runAsUser !== null && context.runAsUser !== undefined;
  const runAsUsername = plainText(context.runAsUsername, `${field}.run_as_username`);
  if (byId && runAsUsername !== "") {
    throw criErrors.fieldsConflict({
      field: `${field}.run_as_username`,
      other: "run_as_user",
      remedy: "Set one of the two.",
    });
  }
  return {
    ...commonSecurity(context, byId || runAsUsername !== "", field),
    namespaces: decodeNamespaces(context.namespaceOptions, "container", `${field}.namespace_options`),
    ...present(decodeProfile(context.apparmor, context.apparmorProfile, `${field}.apparmor`, "name"), (apparmor) => ({
      apparmor,
    })),
    addCapabilities: context.capabilities?.addCapabilities ?? [],
    dropCapabilities: context.capabilities?.dropCapabilities ?? [],
    addAmbientCapabilities: context.capabilities?.addAmbientCapabilities ?? [],
    runAsUsername,
    noNewPrivs: context.noNewPrivs ?? false,
    maskedPaths: (context.maskedPaths ?? []).map((path, n) => absolutePath(path, `${field}.masked_paths[${n}]`)),
    readonlyPaths: (context.readonlyPaths ?? []).map((path, n) => absolutePath(path, `${field}.readonly_paths[${n}]`)),
  };
}

/** The fields common to both contexts. */
function commonSecurity(context: Messages["sandbox"] | Messages["container"], hasUser: boolean, field: string) {
  if (context.runAsGroup && !hasUser) {
    throw criErrors.fieldsConflict({
      field: `${field}.run_as_group`,
      other: "an unset run_as_user",
      remedy: "Set run_as_user too.",
    });
  }
  return {
    ...present(decodeSelinux(context.selinuxOptions, `${field}.selinux_options`), (selinux) => ({ selinux })),
    ...present(id(context.runAsUser, `${field}.run_as_user`), (runAsUser) => ({ runAsUser })),
    ...present(id(context.runAsGroup, `${field}.run_as_group`), (runAsGroup) => ({ runAsGroup })),
    readonlyRootfs: context.readonlyRootfs ?? false,
    supplementalGroups: (context.supplementalGroups ?? []).map((group, n) =>
      bigIntWithin(group, `${field}.supplemental_groups[${n}]`, 0n, highestId),
    ),
    supplementalGroupsPolicy: enumName(
      context.supplementalGroupsPolicy,
      `${field}.supplemental_groups_policy`,
      groupPolicies,
    ),
    privileged: context.privileged ?? false,
    ...present(decodeProfile(context.seccomp, context.seccompProfilePath, `${field}.seccomp`, "path"), (seccomp) => ({
      seccomp,
    })),
  };
}

function id(value: runtime.v1.Int64Value.$Properties | null | undefined, field: string): bigint | undefined {
  return value ? bigIntWithin(value.value, field, 0n, highestId) : undefined;
}

function decodeNamespaces(
  message: Messages["namespaces"] | null | undefined,
  owner: "sandbox" | "container",
  field: string,
): NamespaceOptions {
  const network = enumName(message?.network, `${field}.network`, namespaceModes);
  const pid = enumName(message?.pid, `${field}.pid`, namespaceModes);
  const ipc = enumName(message?.ipc, `${field}.ipc`, namespaceModes);
  if (network === "container" || network === "target") throw invalid(`${field}.network`, network, "POD or NODE");
  if (ipc === "container" || ipc === "target") throw invalid(`${field}.ipc`, ipc, "POD or NODE");
  if (pid === "target" && owner === "sandbox") throw invalid(`${field}.pid`, pid, "POD, CONTAINER or NODE");
  const targetId = pid === "target" ? requiredText(message?.targetId, `${field}.target_id`, "a container's id") : "";
  const user = decodeUserNamespace(message?.usernsOptions, `${field}.userns_options`);
  if (user?.mode === "pod" && (pid === "node" || ipc === "node")) {
    throw criErrors.fieldsConflict({
      field: `${field}.userns_options`,
      other: pid === "node" ? "the node's PID namespace" : "the node's IPC namespace",
      remedy: "A pod with a user namespace also needs its own PID and IPC namespaces.",
    });
  }
  return { network, pid, ipc, targetId, ...present(user, (user) => ({ user })) };
}

/** The kernel allows several mappings; CRI allows one of each kind, which must start at container id 0. */
function decodeUserNamespace(message: Messages["user"] | null | undefined, field: string): UserNamespace | undefined {
  if (!message) return undefined;
  const mode = enumName(message.mode, `${field}.mode`, namespaceModes);
  if (mode !== "pod" && mode !== "node") throw invalid(`${field}.mode`, mode.toUpperCase(), "POD or NODE");
  const uids = decodeIdMappings(message.uids, `${field}.uids`);
  const gids = decodeIdMappings(message.gids, `${field}.gids`);
  for (const [name, mappings] of [["uids", uids] as const, ["gids", gids] as const]) {
    if (mode === "node") {
      if (mappings.length > 0) throw invalid(`${field}.${name}`, `${mappings.length} mappings`, "none with mode NODE");
      continue;
    }
    const [only, ...others] = mappings;
    if (only === undefined || others.length > 0) {
      throw invalid(`${field}.${name}`, `${mappings.length} mappings`, "exactly one mapping");
    }
    if (only.containerId !== 0) throw invalid(`${field}.${name}[0].container_id`, only.containerId, "0");
    // The pod's root would be the host's root, which defeats the namespace.
    if (only.hostId === 0) throw invalid(`${field}.${name}[0].host_id`, 0, "above 0");
  }
  return { mode, uids, gids };
}

/** user_namespaces(7): no id may be in two mappings of a list, on either side. */
export function decodeIdMappings(
  messages: readonly Messages["mapping"][] | null | undefined,
  field: string,
): IdMapping[] {
  const mappings = (messages ?? []).map((message, n) => {
    const hostId = intWithin(message.hostId, `${field}[${n}].host_id`, 0, Number(highestId));
    const containerId = intWithin(message.containerId, `${field}[${n}].container_id`, 0, Number(highestId));
    const room = Number(highestId) - Math.max(hostId, containerId) + 1;
    return { hostId, containerId, length: intWithin(message.length, `${field}[${n}].length`, 1, room) };
  });
  for (const side of ["hostId", "containerId"] as const) {
    const sorted = mappings.toSorted((a, b) => a[side] - b[side]);
    const twice = sorted.find((mapping, n) => n > 0 && mapping[side] < endOf(sorted[n - 1], side));
    if (twice !== undefined)
      throw invalid(
        field,
        `mappings that share ${side === "hostId" ? "host" : "container"} id ${twice[side]}`,
        "mappings that do not overlap",
      );
  }
  return mappings;
}

function endOf(mapping: IdMapping | undefined, side: "hostId" | "containerId"): number {
  return mapping === undefined ? 0 : mapping[side] + mapping.length;
}

/** The newer message overrides the deprecated string, as in Kubernetes. */
function decodeProfile(
  message: Messages["profile"] | null | undefined,
  deprecated: string | null | undefined,
  field: string,
  reference: "path" | "name",
): SecurityProfile | undefined {
  if (!message) return decodeDeprecatedProfile(deprecated ?? "", field, reference);
  const type = enumName(message.profileType, `${field}.profile_type`, profileTypes);
  return type === "localhost" ? localProfile(message.localhostRef, `${field}.localhost_ref`, reference) : { type };
}

/** "", "runtime/default", "docker/default", "unconfined" or "localhost/<reference>". */
function decodeDeprecatedProfile(text: string, field: string, reference: "path" | "name"): SecurityProfile | undefined {
  if (text === "") return undefined;
  if (text === "unconfined") return { type: "unconfined" };
  if (text === "runtime/default" || text === "docker/default") return { type: "runtime-default" };
  if (text.startsWith("localhost/")) return localProfile(text.slice("localhost/".length), field, reference);
  throw invalid(
    `${field}_profile${reference === "path" ? "_path" : ""}`,
    text,
    "runtime/default, unconfined or localhost/<profile>",
  );
}

function localProfile(text: string | null | undefined, field: string, reference: "path" | "name"): SecurityProfile {
  if (reference === "path") return { type: "localhost", path: absolutePath(text, field) };
  const name = requiredText(text, field, "the name of a loaded profile");
  return { type: "localhost", path: plainText(name.replace(/^localhost\//, ""), field) };
}

function decodeSelinux(message: Messages["selinux"] | null | undefined, field: string): SelinuxOptions | undefined {
  if (!message) return undefined;
  return {
    user: plainText(message.user, `${field}.user`),
    role: plainText(message.role, `${field}.role`),
    type: plainText(message.type, `${field}.type`),
    level: plainText(message.level, `${field}.level`),
  };
}
