// Ids of sandboxes and containers, and lookup by unique prefix.

import { randomBytes } from "node:crypto";
import { podErrors } from "./errors.ts";
import type { ContainerId, SandboxId } from "./types.ts";

const fullId = /^[0-9a-f]{64}$/;

function isSandboxId(text: string): text is SandboxId {
  return fullId.test(text);
}

export function isContainerId(text: string): text is ContainerId {
  return fullId.test(text);
}

export function newSandboxId(): SandboxId {
  const id = randomBytes(32).toString("hex");
  if (!isSandboxId(id)) throw new TypeError("randomBytes did not give 32 bytes");
  return id;
}

export function newContainerId(): ContainerId {
  const id = randomBytes(32).toString("hex");
  if (!isContainerId(id)) throw new TypeError("randomBytes did not give 32 bytes");
  return id;
}

export type Lookup<Item> =
  | { readonly kind: "found"; readonly item: Item }
  | { readonly kind: "missing" }
  | { readonly kind: "ambiguous" };

/** Finds the item whose id equals `text` or starts with it. */
export function findById<Item>(items: ReadonlyMap<string, Item>, text: string): Lookup<Item> {
  const exact = items.get(text);
  if (exact !== undefined) return { kind: "found", item: exact };
  let match: Item | undefined;
  for (const [id, item] of items) {
    if (!id.startsWith(text)) continue;
    if (match !== undefined) return { kind: "ambiguous" };
    match = item;
  }
  return match === undefined ? { kind: "missing" } : { kind: "found", item: match };
}

/** Like `findById`, but throws when nothing or more than one item matches. */
export function requireById<Item>(
  items: ReadonlyMap<string, Item>,
  text: string,
  object: "sandbox" | "container",
): Item {
  const found = findIfAny(items, text, object);
  if (found !== undefined) return found;
  throw object === "sandbox" ? podErrors.sandboxNotFound({ id: text }) : podErrors.containerNotFound({ id: text });
}

/**
 * Like `requireById`, but returns `undefined` for a missing id, for idempotent calls. Throws for an ambiguous prefix.
 */
export function findIfAny<Item>(
  items: ReadonlyMap<string, Item>,
  text: string,
  object: "sandbox" | "container",
): Item | undefined {
  if (text === "") throw podErrors.idEmpty({ object });
  const lookup = findById(items, text);
  if (lookup.kind === "ambiguous") throw podErrors.idAmbiguous({ id: text, object });
  return lookup.kind === "found" ? lookup.item : undefined;
}
