// Security contexts of a pod and a container → CRI: the container's settings override the pod's.

import Long from "long";
import { runtime } from "../api/generated/messages.js";
import { playErrors } from "./errors.ts";
import type { Container, PodSpec } from "./supported.ts";

const { NamespaceMode, SupplementalGroupsPolicy } = runtime.v1;
const { ProfileType } = runtime.v1.SecurityProfile;

type PodContext = NonNullable<PodSpec["securityContext"]>;

/** The user set in the image; a user name is resolved in the image's own files. */
export interface ImageUser {
  readonly uid: number | undefined;
  readonly username: string;
}

export function sandboxSecurity(spec: PodSpec): runtime.v1.LinuxSandboxSecurityContext.$Properties {
  const context = spec.securityContext ?? {};
  const { runAsUser, runAsGroup } = context;
  return {
    namespaceOptions: namespaces(spec),
    privileged: [...(spec.initContainers ?? []), ...spec.containers].some((each) => each.securityContext?.privileged),
    seccomp: seccomp(context.seccompProfile?.type),
    ...groups(context),
    ...(runAsUser === undefined ? {} : { runAsUser: { value: Long.fromNumber(runAsUser) } }),
    // CRI has no group without a user.
    ...(runAsGroup === undefined || runAsUser === undefined
      ? {}
      : { runAsGroup: { value: Long.fromNumber(runAsGroup) } }),
  };
}

/** Throws if the container must not run as root, but would. */
export function containerSecurity(
  spec: PodSpec,
  { name, securityContext: own = {} }: Container,
  image: ImageUser,
): runtime.v1.LinuxContainerSecurityContext.$Properties {
  const pod = spec.securityContext ?? {};
  const runAsUser = own.runAsUser ?? pod.runAsUser;
  const runAsGroup = own.runAsGroup ?? pod.runAsGroup;
  if (own.runAsNonRoot ?? pod.runAsNonRoot) refuseRoot(name, runAsUser, image);
  const apparmor = own.appArmorProfile ?? pod.appArmorProfile;
  const uid = runAsUser ?? image.uid;
  return {
    namespaceOptions: namespaces(spec),
    privileged: own.privileged ?? false,
    readonlyRootfs: own.readOnlyRootFilesystem ?? false,
    noNewPrivs: own.allowPrivilegeEscalation === false,
    capabilities: { addCapabilities: own.capabilities?.add ?? [], dropCapabilities: own.capabilities?.drop ?? [] },
    ...groups(pod),
    ...(uid === undefined ? { runAsUsername: image.username } : { runAsUser: { value: Long.fromNumber(uid) } }),
    ...(runAsGroup === undefined ? {} : { runAsGroup: { value: Long.fromNumber(runAsGroup) } }),
    seccomp: seccomp((own.seccompProfile ?? pod.seccompProfile)?.type),
    ...(apparmor === undefined
      ? {}
      : { apparmor: { profileType: profileType(apparmor.type), localhostRef: apparmor.localhostProfile ?? "" } }),
  };
}

function refuseRoot(container: string, runAsUser: number | undefined, image: ImageUser): void {
  const uid = runAsUser ?? image.uid ?? (image.username === "" ? 0 : undefined);
  // A user given by name may still be root.
  if (uid === undefined) throw playErrors.rootUser({ container, user: `${image.username}, which is not numeric` });
  if (uid === 0) throw playErrors.rootUser({ container, user: "root" });
}

function namespaces(spec: PodSpec): runtime.v1.NamespaceOption.$Properties {
  const pid = spec.hostPID
    ? NamespaceMode.NODE
    : spec.shareProcessNamespace
      ? NamespaceMode.POD
      : NamespaceMode.CONTAINER;
  return {
    network: spec.hostNetwork ? NamespaceMode.NODE : NamespaceMode.POD,
    ipc: spec.hostIPC ? NamespaceMode.NODE : NamespaceMode.POD,
    pid,
  };
}

function groups({ fsGroup, supplementalGroups = [], supplementalGroupsPolicy }: PodContext) {
  return {
    supplementalGroups: (fsGroup === undefined ? supplementalGroups : [fsGroup, ...supplementalGroups]).map((id) =>
      Long.fromNumber(id),
    ),
    supplementalGroupsPolicy:
      supplementalGroupsPolicy === "Strict" ? SupplementalGroupsPolicy.Strict : SupplementalGroupsPolicy.Merge,
  };
}

/** Defaults to the runtime's own profile, as in a kubelet with seccompDefault. */
function seccomp(type = "RuntimeDefault"): runtime.v1.SecurityProfile.$Properties {
  return { profileType: profileType(type) };
}

function profileType(type: string): runtime.v1.SecurityProfile.ProfileType {
  if (type === "Localhost") return ProfileType.Localhost;
  return type === "Unconfined" ? ProfileType.Unconfined : ProfileType.RuntimeDefault;
}
