// Checks every field of a document against what Kubernetes defines and keelson play supports (supported.ts): no field
// of a manifest is silently ignored.

import { playErrors } from "./errors.ts";
import { supportedModels } from "./supported.ts";

/** An object of a manifest, for messages: "demo.yaml: Pod default/web". */
export type At = string;

/** Numbers for which 0 means Kubernetes' default. */
const zeroIsUnset: ReadonlySet<string> = new Set([
  "hostPort",
  "periodSeconds",
  "timeoutSeconds",
  "successThreshold",
  "failureThreshold",
]);

/** Limit of values in all documents together; aliases count each time they are used. */
const valueLimit = 200_000;

export class FieldChecker {
  #values = 0;

  /**
   * Checks a document against a model. Fields that are null or an empty string are dropped, and so are unsupported
   * empty ones: Kubernetes treats them as absent. Throws for the first field that is unknown, unsupported, of the wrong
   * type or missing.
   */
  check(value: unknown, type: string, at: At, path: string): void {
    if (++this.#values > valueLimit) throw playErrors.manifestTooLarge({ limit: valueLimit, what: "values" });
    const model = supportedModels.get(type);
    if (model !== undefined) {
      const fields = asFields(value, at, path);
      for (const [name, field] of Object.entries(fields)) {
        const inner = path === "" ? name : `${path}.${name}`;
        const fieldType = model.types.get(name);
        if (fieldType === undefined) throw playErrors.fieldUnknown({ at, path: inner });
        if (field === null || (isUnset(name, field) && !model.required.includes(name))) delete fields[name];
        else if (model.supported.has(name)) this.check(field, fieldType, at, inner);
        // `kubectl create --dry-run` prints such fields: strategy, status.
        else if (isEmpty(field)) delete fields[name];
        else throw unsupported(at, inner, field, fieldType);
      }
      for (const name of model.required)
        if (fields[name] === undefined) throw missing(at, path, name, model.types.get(name));
      return;
    }
    const [, item] = /^Array<(.*)>$/.exec(type) ?? [];
    if (item !== undefined) {
      if (!Array.isArray(value)) throw wrong(at, path, value, "a list");
      for (const [index, element] of value.entries()) this.check(element, item, at, `${path}[${index}]`);
      return;
    }
    const [, member] = /^\{ \[key: string\]: (.*); \}$/.exec(type) ?? [];
    if (member !== undefined) {
      for (const [name, field] of Object.entries(asFields(value, at, path)))
        this.check(field, member, at, `${path}[${JSON.stringify(name)}]`);
      return;
    }
    this.#checkScalar(value, type, at, path);
  }

  #checkScalar(value: unknown, type: string, at: At, path: string): void {
    // Quantities are strings in the model, but may be plain numbers in a manifest.
    const quantity = /(^|\.)(limits|requests)\[|\.sizeLimit$/.test(path);
    if (type === "IntOrString" || quantity) {
      if (typeof value === "string" || Number.isFinite(value)) return;
      throw wrong(at, path, value, "a number or a string");
    }
    if (type === "number" ? !Number.isSafeInteger(value) : typeof value !== type) {
      throw wrong(at, path, value, type === "number" ? "an integer" : `a ${type}`);
    }
  }
}

/** If only one field inside is set, the message names it: `lifecycle.postStart`. */
function unsupported(at: At, path: string, value: unknown, type: string): Error {
  const names = isFields(value) && type.startsWith("V1") ? Object.keys(value) : [];
  return playErrors.fieldUnsupported({ at, path: names.length === 1 ? `${path}.${names[0]}` : path });
}

function asFields(value: unknown, at: At, path: string): Record<string, unknown> {
  if (!isFields(value)) throw wrong(at, path || "the document", value, "an object");
  return value;
}

export function isFields(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Helm charts write unset fields like this: `priorityClassName: ""`, `hostPort: 0`. */
function isUnset(name: string, value: unknown): boolean {
  return value === "" || (value === 0 && zeroIsUnset.has(name));
}

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

function missing(at: At, path: string, name: string, type: string | undefined): Error {
  const wanted = type === "IntOrString" ? "a number or a string" : "a string";
  return playErrors.fieldWrong({ at, path: `${path}.${name}`, problem: "it is missing", wanted });
}

function wrong(at: At, path: string, value: unknown, wanted: string): Error {
  return playErrors.fieldWrong({ at, path, problem: `it is ${describe(value)}`, wanted });
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (isFields(value)) return "an object";
  return String(JSON.stringify(value)).slice(0, 100);
}
