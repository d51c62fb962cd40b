// A host SELinux policy for containers that accepts every label, and SELinux options for pods.

import type { ContainerPolicy } from "../spec/selinux-policy.ts";
import type { SelinuxOptions } from "../types.ts";

export const containerPolicy: ContainerPolicy = {
  kind: "on",
  process: { user: "system_u", role: "system_r", type: "container_t", level: "s0" },
  file: { user: "system_u", role: "object_r", type: "container_file_t", level: "s0" },
  hasCategories: true,
  canonical: async (label) => label,
};

/** SELinux options with these parts set. */
export function named(options: Partial<SelinuxOptions>): SelinuxOptions {
  return { user: "", role: "", type: "", level: "", ...options };
}
