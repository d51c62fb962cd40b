// CRI's list filters by id, state and labels.

import type { Container } from "./container.ts";
import { findById } from "./ids.ts";
import type { Sandbox } from "./sandbox.ts";
import type { ContainerFilter, SandboxFilter, StringMap } from "./types.ts";

export function matchingSandboxes(sandboxes: ReadonlyMap<string, Sandbox>, filter: SandboxFilter): Sandbox[] {
  return narrowed(sandboxes, filter.id).filter(
    (sandbox) =>
      sandbox.visible &&
      (filter.state === undefined || filter.state === sandbox.view().state) &&
      hasLabels(sandbox.config.labels, filter.labels),
  );
}

export function matchingContainers(containers: ReadonlyMap<string, Container>, filter: ContainerFilter): Container[] {
  return narrowed(containers, filter.id).filter(
    (container) =>
      (filter.sandboxId === undefined || container.sandbox.id.startsWith(filter.sandboxId)) &&
      (filter.state === undefined || filter.state === container.phase.state) &&
      hasLabels(container.config.labels, filter.labels),
  );
}

/** A filter's id is a unique prefix; a prefix that is missing or ambiguous matches nothing. */
function narrowed<Item>(items: ReadonlyMap<string, Item>, id: string | undefined): Item[] {
  if (id === undefined) return [...items.values()];
  const lookup = findById(items, id);
  return lookup.kind === "found" ? [lookup.item] : [];
}

function hasLabels(labels: StringMap, wanted: StringMap): boolean {
  for (const [name, value] of wanted) if (labels.get(name) !== value) return false;
  return true;
}
