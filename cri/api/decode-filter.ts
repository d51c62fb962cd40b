// The filters of the list calls; an empty id or no state means all.

import type { ContainerFilter, SandboxFilter } from "../../pod/types.ts";
import { enumName, present, stringMap } from "./decode-fields.ts";
import type { runtime } from "./generated/messages.js";

const sandboxStates = ["ready", "not-ready"] as const;
const containerStates = ["created", "running", "exited", "unknown"] as const;

export function decodeSandboxFilter(
  message: runtime.v1.PodSandboxFilter.$Properties | null | undefined,
): SandboxFilter {
  return {
    ...present(message?.id || undefined, (id) => ({ id })),
    ...present(message?.state ?? undefined, ({ state }) => ({
      state: enumName(state, "filter.state.state", sandboxStates),
    })),
    labels: stringMap(message?.labelSelector),
  };
}

export function decodeContainerFilter(
  message: runtime.v1.ContainerFilter.$Properties | null | undefined,
): ContainerFilter {
  return {
    ...present(message?.id || undefined, (id) => ({ id })),
    ...present(message?.podSandboxId || undefined, (sandboxId) => ({ sandboxId })),
    ...present(message?.state ?? undefined, ({ state }) => ({
      state: enumName(state, "filter.state.state", containerStates),
    })),
    labels: stringMap(message?.labelSelector),
  };
}
