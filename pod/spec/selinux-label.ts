// SELinux labels (contexts), "user:role:type:level", from a host's policy and from a pod's options.
// Parts from a pod are restricted to valid names and levels, because a label becomes a quoted mount option.
// Sources: selinux(8), SELinux notebook ("Security Context", "MLS/MCS").

import { podErrors } from "../errors.ts";
import type { SelinuxOptions } from "../types.ts";

export interface Label {
  readonly user: string;
  readonly role: string;
  readonly type: string;
  /** Empty if the policy has no levels. */
  readonly level: string;
}

const name = /^[A-Za-z_][A-Za-z0-9_.-]{0,127}$/;
/** "s0", "s0:c1,c2", "s0:c0.c1023", and a range of two: "s0-s0:c0.c1023". */
const oneLevel = "s\\d{1,4}(:c\\d{1,4}(\\.c\\d{1,4})?(,c\\d{1,4}(\\.c\\d{1,4})?){0,255})?";
const levels = new RegExp(`^${oneLevel}(-${oneLevel})?$`);

/** Undefined for an invalid label. */
export function parseLabel(text: string): Label | undefined {
  const [user = "", role = "", type = "", ...rest] = text.split(":");
  const level = rest.join(":");
  const isLabel = [user, role, type].every((part) => name.test(part)) && (rest.length === 0 || levels.test(level));
  return isLabel ? { user, role, type, level } : undefined;
}

export function labelText({ user, role, type, level }: Label): string {
  return [user, role, type, ...(level === "" ? [] : [level])].join(":");
}

/** Empty for an invalid label, or one without a level. */
export function levelOf(label: string): string {
  return parseLabel(label)?.level ?? "";
}

/** Whether any part is set. */
export function isAsked(options: SelinuxOptions | undefined): options is SelinuxOptions {
  return options !== undefined && Object.values(options).some((part) => part !== "");
}

/** The label with the parts that the options set. `object`: the pod or container of the options, for messages. */
export function withOptions(label: Label, options: SelinuxOptions | undefined, object: string): Label {
  if (!isAsked(options)) return label;
  const refuse = (part: string, value: string, reason: string) => {
    throw podErrors.selinuxOption({ part, value: JSON.stringify(value), object, reason });
  };
  for (const part of ["user", "role", "type"] as const)
    if (options[part] !== "" && !name.test(options[part])) refuse(part, options[part], "it is not a valid name");
  const { level } = options;
  if (level !== "" && !levels.test(level)) refuse("level", level, 'it is not a valid level, such as "s0:c1,c2"');
  // Without levels everything is at s0, so a request for s0 is already satisfied.
  if (level !== "" && label.level === "" && level !== "s0") refuse("level", level, "this host's policy has no levels");
  return {
    user: options.user || label.user,
    role: options.role || label.role,
    type: options.type || label.type,
    level: label.level === "" ? "" : level || label.level,
  };
}
