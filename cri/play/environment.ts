// A container's environment, and the expansion of $(NAME) in its command and values.

import { type PodFacts, readField } from "./field-path.ts";
import type { Data, Manifest, PodTemplate } from "./manifest.ts";
import type { Container } from "./supported.ts";

export interface EnvironmentSource {
  readonly facts: PodFacts;
  readonly template: Pick<PodTemplate, "labels" | "annotations">;
  readonly manifest: Pick<Manifest, "configMaps" | "secrets">;
}

/** Values are bytes: a Secret's value may be binary. */
export type Environment = ReadonlyMap<string, Buffer>;

/** env overrides envFrom; a value may refer to variables defined before it. */
export function environmentOf({ env = [], envFrom = [] }: Container, source: EnvironmentSource): Environment {
  const environment = new Map<string, Buffer>();
  for (const { prefix = "", configMapRef, secretRef } of envFrom) {
    const data = configMapRef
      ? dataOf(source, "configMaps", configMapRef.name)
      : dataOf(source, "secrets", secretRef?.name);
    for (const [key, value] of data ?? []) environment.set(`${prefix}${key}`, value);
  }
  for (const { name, value = "", valueFrom } of env) {
    const { configMapKeyRef, secretKeyRef, fieldRef } = valueFrom ?? {};
    const found = configMapKeyRef
      ? dataOf(source, "configMaps", configMapKeyRef.name)?.get(configMapKeyRef.key)
      : secretKeyRef
        ? dataOf(source, "secrets", secretKeyRef.name)?.get(secretKeyRef.key)
        : Buffer.from(
            fieldRef ? readField(fieldRef.fieldPath, source.facts, source.template) : expand(value, environment),
          );
    // An optional source that is missing sets no variable.
    if (found !== undefined) environment.set(name, found);
  }
  return environment;
}

function dataOf(
  { manifest, facts }: EnvironmentSource,
  kind: "configMaps" | "secrets",
  name: string | undefined,
): Data | undefined {
  return manifest[kind].get(`${facts.namespace}/${name}`)?.variables;
}

/** $(NAME) is replaced with the variable's value, or kept if it is undefined; $$ becomes $. */
export function expand(text: string, environment: Environment): string {
  return text.replaceAll(/\$(?:\$|\(([^)]*)\))/g, (reference, name: string | undefined) => {
    if (name === undefined) return "$";
    return environment.get(name)?.toString() ?? reference;
  });
}
