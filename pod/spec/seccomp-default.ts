// The runtime's default seccomp profile as OCI `linux.seccomp`: the table seccomp-default.json resolved for a
// container's capabilities on a given machine.
//
// System calls that the table does not name fail with ENOSYS: a call newer than the profile then looks like one that
// the kernel lacks, and libraries fall back to an older one. System calls that the table names, but only allows under
// conditions that are not met, fail with EPERM.

import { release } from "node:os";
import { isKernelAtLeast } from "../kernel-release.ts";
import table from "./seccomp-default.json" with { type: "json" };

export interface SeccompArgument {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: string;
}

export interface SeccompRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArgument[];
}

/** The part of `linux.seccomp` (runtime-spec, config-linux.md) that the default profile uses. */
export interface OciSeccomp {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

/** A rule of the table. It applies when `when` is met and `unless` is not. */
interface TableRule {
  readonly subject: string;
  readonly reason?: string;
  /** Each string holds several names, separated by spaces. */
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  /** Matches when the argument's bits under `mask` equal `equals`: SCMP_CMP_MASKED_EQ. */
  readonly argument?: { readonly index: number; readonly oneOf: readonly { mask: string; equals: string }[] };
  readonly when?: Condition;
  readonly unless?: Condition;
}

/** Met when every given part is met; one matching capability and one matching architecture are enough. */
interface Condition {
  readonly capabilities?: readonly string[];
  readonly architectures?: readonly string[];
  readonly minKernel?: string;
}

export interface SeccompMachine {
  /** Node's name (`process.arch`). If the table does not list it, the profile covers only the native ABI. */
  readonly architecture: string;
  /** The release from uname(2): "6.1.0-18-amd64". */
  readonly kernel: string;
}

const rules: readonly TableRule[] = table.rules;

/** The default profile for a process with these capabilities ("CAP_…"; its bounding set). */
export function defaultSeccompProfile(
  capabilities: ReadonlySet<string>,
  machine: SeccompMachine = { architecture: process.arch, kernel: release() },
): OciSeccomp {
  const isMet = (condition: Condition) =>
    (condition.capabilities?.some((name) => capabilities.has(name)) ?? true) &&
    (condition.architectures?.includes(machine.architecture) ?? true) &&
    isKernelAtLeast(machine.kernel, condition.minKernel ?? "0.0");
  const inForce = rules.filter(
    ({ when, unless }) => (when === undefined || isMet(when)) && (unless === undefined || !isMet(unless)),
  );
  const decided = new Set(inForce.flatMap(systemCalls));
  const withheld = new Set(rules.flatMap(systemCalls).filter((name) => !decided.has(name)));
  return {
    defaultAction: table.defaultAction,
    defaultErrnoRet: table.defaultErrnoRet,
    architectures: new Map(Object.entries(table.architectures)).get(machine.architecture) ?? [],
    syscalls: [
      ...inForce.flatMap(ociRules),
      { names: [...withheld], action: "SCMP_ACT_ERRNO", errnoRet: table.withheldErrnoRet },
    ],
  };
}

function systemCalls(rule: TableRule): string[] {
  return rule.names.flatMap((line) => line.split(" "));
}

/** Returns one OCI rule per argument value, because all comparisons within an OCI rule must match. */
function ociRules(rule: TableRule): SeccompRule[] {
  const { action, errnoRet, argument } = rule;
  const oci = { names: systemCalls(rule), action, ...(errnoRet === undefined ? {} : { errnoRet }) };
  if (argument === undefined) return [oci];
  return argument.oneOf.map(({ mask, equals }) => ({
    ...oci,
    args: [{ index: argument.index, value: Number(mask), valueTwo: Number(equals), op: "SCMP_CMP_MASKED_EQ" }],
  }));
}
