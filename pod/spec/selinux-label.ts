// SELinux labels (contexts), "user:role:type:level", from a host's policy and from a pod's options.
// What a pod can put into one is held to names and levels: a label becomes an option of a mount, in quotes.
// Sources: selinux(8), SELinux notebook ("Security Context", "MLS/MCS").

import { podErrors } from "../errors.ts";
import type { SelinuxOptions } from "../types.ts";

export interface Label {
  readonly user: string;
  readonly role: string;
  readonly type: string;
  /** Empty where the policy has none. */
  readonly level: string;
}

const name = /^[A-Za-z_][A-Za-z0-9_.-]{0,127}$/;
/** "s0", "s0:c1,c2", "s0:c0.c1023", and a range of two: "s0-s0:c0.c1023". */
const oneLevel = "s\\d{1,4}(:c\\d{1,4}(\\.c\\d{1,4})?(,c\\d{1,4}(\\.c\\d{1,4})?){0,255})?";
const levels = new RegExp(`^${oneLevel}(-${oneLevel})?$`);

/** Undefined for what is no label. */
export function parseLabel(text: string): Label | undefined {
  const [user = "", role = "", type = "", ...rest] = text.split(":");
  const level = rest.join(":");
  const isLabel = [user, role, type].every((part) => name.test(part)) && (rest.length === 0 || levels.test(level));
  return isLabel ? { user, role, type, level } : undefined;
}

export function labelText({ user, role, type, level }: Label): string {
  return [user, role, type, ...(level === "" ? [] : [level])].join(":");
}

/** Empty for what is no label, or has none. */
export function levelOf(label: string): string {
  return parseLabel(label)?.level ?? "";
}

/** Whether any part is named. */
export function isAsked(options: SelinuxOptions | undefined): options is SelinuxOptions {
  return options !== undefined && Object.values(options).some((part) => part !== "");
}

/** The label with the parts that are named. `object`: the pod or container that names them. */
export function withOptions(label: Label, options: SelinuxOptions | undefined, object: string): Label {
  if (!isAsked(options)) return label;
  const refuse = (part: string, value: string, reason: string) => {
    throw podErrors.selinuxOption({ part, value: JSON.stringify(value), object, reason });
  };
  for (const part of ["user", "role", "type"] as const)
    if (options[part] !== "" && !name.test(options[part])) refuse(part, options[part], "it is no name of a policy");
  const { level } = options;
  if (level !== "" && !levels.test(level)) refuse("level", level, 'it is no level, such as "s0:c1,c2"');
  // Without levels all are at s0, so who asks for that has it.
  if (level !== "" && label.level === "" && level !== "s0") refuse("level", level, "this host's policy has no levels");
  return {
    user: options.user || label.user,
    role: options.role || label.role,
    type: options.type || label.type,
    level: label.level === "" ? "" : level || label.level,
  };
}
