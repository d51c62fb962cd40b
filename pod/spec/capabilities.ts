// Capability sets of a container. Names and numbers: capabilities(7), linux/capability.h.

import { podErrors } from "../errors.ts";
import type { ContainerSecurity } from "../types.ts";
import type { OciCapabilities } from "./oci.ts";

/** The index is the capability's number. */
export const capabilityNames = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_DAC_READ_SEARCH",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
  "CAP_LINUX_IMMUTABLE",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_BROADCAST",
  "CAP_NET_ADMIN",
  "CAP_NET_RAW",
  "CAP_IPC_LOCK",
  "CAP_IPC_OWNER",
  "CAP_SYS_MODULE",
  "CAP_SYS_RAWIO",
  "CAP_SYS_CHROOT",
  "CAP_SYS_PTRACE",
  "CAP_SYS_PACCT",
  "CAP_SYS_ADMIN",
  "CAP_SYS_BOOT",
  "CAP_SYS_NICE",
  "CAP_SYS_RESOURCE",
  "CAP_SYS_TIME",
  "CAP_SYS_TTY_CONFIG",
  "CAP_MKNOD",
  "CAP_LEASE",
  "CAP_AUDIT_WRITE",
  "CAP_AUDIT_CONTROL",
  "CAP_SETFCAP",
  "CAP_MAC_OVERRIDE",
  "CAP_MAC_ADMIN",
  "CAP_SYSLOG",
  "CAP_WAKE_ALARM",
  "CAP_BLOCK_SUSPEND",
  "CAP_AUDIT_READ",
  "CAP_PERFMON",
  "CAP_BPF",
  "CAP_CHECKPOINT_RESTORE",
] as const;

type CapabilityName = (typeof capabilityNames)[number];

/** A container's default capabilities: the same fourteen as in other runtimes. */
const defaultCapabilities = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

/** Decodes a kernel capability set: bit n for capability n. */
export function capabilitiesIn(set: bigint): ReadonlySet<CapabilityName> {
  return new Set(capabilityNames.filter((_, number) => (set & (1n << BigInt(number))) !== 0n));
}

/**
 * `hostSet` has bit n for capability n: those that this process can grant. All sets are limited to it, so "ALL" means
 * all that this host can grant. Inheritable stays empty (CVE-2022-24769) except for ambient capabilities.
 */
export function capabilitiesFor(security: ContainerSecurity, hostSet: bigint): OciCapabilities {
  const host = [...capabilitiesIn(hostSet)];
  const set = security.privileged ? new Set<string>(host) : chosen(security, host);
  const ambient = new Set<string>(
    security.addAmbientCapabilities.flatMap((name) => (isAll(name) ? host : [canonical(name)])),
  );
  for (const name of ambient) set.add(name);
  const clamped = host.filter((name) => set.has(name));
  const clampedAmbient = host.filter((name) => ambient.has(name));
  return {
    bounding: clamped,
    effective: clamped,
    permitted: clamped,
    inheritable: clampedAmbient,
    ambient: clampedAmbient,
  };
}

/** ALL first, then the named ones; a named drop wins over a named add. */
function chosen(security: ContainerSecurity, host: readonly string[]): Set<string> {
  const { addCapabilities: add, dropCapabilities: drop } = security;
  const base = drop.some(isAll) ? [] : add.some(isAll) ? host : defaultCapabilities;
  const named = (names: readonly string[]) => names.filter((name) => !isAll(name)).map(canonical);
  const set = new Set<string>([...base, ...named(add)]);
  for (const name of named(drop)) set.delete(name);
  return set;
}

function isAll(name: string): boolean {
  return name.toUpperCase() === "ALL";
}

function canonical(name: string): string {
  const upper = name.toUpperCase();
  const full = upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
  if (!capabilityNames.some((known) => known === full)) throw podErrors.capabilityUnknown({ name });
  return full;
}
