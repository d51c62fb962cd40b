// Ids of sandboxes and containers, and how a unique prefix finds one.

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

/** Finds the one whose id is `text` or begins with it. */
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

/** As `findById`, but what is not found is an error; `object` is "sandbox" or "container". */
export function requireById<Item>(
  items: ReadonlyMap<string, Item>,
  text: string,
  object: "sandbox" | "container",
): Item {
  const found = findIfAny(items, text, object);
  if (found !== undefined) return found;
  throw object === "sandbox" ? podErrors.sandboxNotFound({ id: text }) : podErrors.containerNotFound({ id: text });
}

/** As `requireById`, but a missing one is `undefined`: for calls that are idempotent. An ambiguous prefix is an error. */
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
