// The seccomp profile of containers that ask for the runtime's default, as OCI `linux.seccomp`.
//
// What it does not name fails with ENOSYS: a system call newer than the profile then looks like one that the
// kernel lacks, and libraries fall back to an older one. What it refuses on purpose fails with EPERM.

import { allowed, broughtByCapability, refused } from "./system-calls.ts";

export interface SeccompArgument {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: "SCMP_CMP_MASKED_EQ";
}

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: "SCMP_ACT_ALLOW" | "SCMP_ACT_ERRNO";
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArgument[];
}

/** The part of `linux.seccomp` (runtime-spec, config-linux.md) that the default profile uses. */
export interface OciSeccomp {
  readonly defaultAction: "SCMP_ACT_ERRNO";
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/** Each with the 32-bit architectures that its kernel runs too. */
const architectures: ReadonlyMap<string, readonly string[]> = new Map([
  ["x64", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]],
  ["arm64", ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]],
]);

/**
 * The default profile for a process with these capabilities ("CAP_…"; its bounding set). `architecture` is
 * Node's name of the machine's (`process.arch`); of one that is not x64 or arm64 only the native ABI is filtered.
 */
export function defaultSeccompProfile(
  capabilities: ReadonlySet<string>,
  architecture: string = process.arch,
): OciSeccomp {
  const granted = new Set([...broughtByCapability].flatMap(([name, calls]) => (capabilities.has(name) ? calls : [])));
  const withheld = new Set([...broughtByCapability.values()].flat().filter((call) => !granted.has(call)));
  return {
    defaultAction: "SCMP_ACT_ERRNO",
    defaultErrnoRet: ENOSYS,
    architectures: architectures.get(architecture) ?? [],
    syscalls: [
      { names: [...allowed, ...granted], action: "SCMP_ACT_ALLOW" },
      { names: [...withheld, ...refused], action: "SCMP_ACT_ERRNO", errnoRet: EPERM },
      ...cloneRules(capabilities.has("CAP_SYS_ADMIN")),
      ...personalityRules,
      ...socketRules,
    ],
  };
}

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h). */
const namespaceFlags = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/**
 * New processes, but new namespaces only for CAP_SYS_ADMIN. The flags of clone3 stand in memory, out of a
 * filter's sight: unnamed here it fails with ENOSYS, and libc falls back to clone.
 */
function cloneRules(mayMakeNamespaces: boolean): SeccompRule[] {
  if (mayMakeNamespaces) return [{ names: ["clone", "clone3"], action: "SCMP_ACT_ALLOW" }];
  const every = namespaceFlags.reduce((flags, flag) => flags + flag);
  return [
    { names: ["clone"], action: "SCMP_ACT_ALLOW", args: [bits(every, 0)] },
    ...namespaceFlags.map(
      (flag): SeccompRule => ({
        names: ["clone"],
        action: "SCMP_ACT_ERRNO",
        errnoRet: EPERM,
        args: [bits(flag, flag)],
      }),
    ),
  ];
}

/** PER_LINUX, PER_LINUX32, both with UNAME26, and asking (personality(2)); nothing that weakens ASLR. */
const personalityRules = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff].map(
  (persona): SeccompRule => ({ names: ["personality"], action: "SCMP_ACT_ALLOW", args: [bits(0xffff_ffff, persona)] }),
);

/**
 * Every address family up to 47 but AF_ALG (38: the kernel's crypto, a history of root holes) and AF_VSOCK
 * (40: not namespaced, it reaches the hypervisor). Masks compare the low 32 bits, as the kernel reads them: a
 * plain "not equal" would be passed by setting a higher bit. These rules come after socketcall's: libseccomp adds
 * one for socketcall with each of them, which must find that call decided.
 */
const socketRules: readonly SeccompRule[] = [
  ...[
    { mask: 0xffff_ffe0, family: 0 }, // 0 to 31
    { mask: 0xffff_fffc, family: 32 }, // 32 to 35
    { mask: 0xffff_fffe, family: 36 }, // 36, 37
    { mask: 0xffff_ffff, family: 39 },
    { mask: 0xffff_ffff, family: 41 },
    { mask: 0xffff_fffe, family: 42 }, // 42, 43
    { mask: 0xffff_fffc, family: 44 }, // 44 to 47
  ].map(
    ({ mask, family }): SeccompRule => ({ names: ["socket"], action: "SCMP_ACT_ALLOW", args: [bits(mask, family)] }),
  ),
  ...[38, 40].map(
    (family): SeccompRule => ({
      names: ["socket"],
      action: "SCMP_ACT_ERRNO",
      errnoRet: EAFNOSUPPORT,
      args: [bits(0xffff_ffff, family)],
    }),
  ),
];

/** The first argument's bits under `mask` are exactly `wanted`. */
function bits(mask: number, wanted: number): SeccompArgument {
  return { index: 0, value: mask, valueTwo: wanted, op: "SCMP_CMP_MASKED_EQ" };
}
