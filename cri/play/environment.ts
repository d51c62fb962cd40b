// A container's environment, and what $(NAME) in its command and values becomes.

import { type PodFacts, readField } from "./field-path.ts";
import type { Data, Manifest, PodTemplate } from "./manifest.ts";
import type { Container } from "./supported.ts";

export interface EnvironmentSource {
  readonly facts: PodFacts;
  readonly template: Pick<PodTemplate, "labels" | "annotations">;
  readonly manifest: Pick<Manifest, "configMaps" | "secrets">;
}

/** Bytes: a Secret's value need not be text. */
export type Environment = ReadonlyMap<string, Buffer>;

/** envFrom comes first and env goes over it; a value may refer to those before it. */
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
    // Of what is optional and missing there is no variable at all.
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

/** $(NAME) is the variable's value, or stays when there is none; $$ is $. */
export function expand(text: string, environment: Environment): string {
  return text.replaceAll(/\$(?:\$|\(([^)]*)\))/g, (reference, name: string | undefined) => {
    if (name === undefined) return "$";
    return environment.get(name)?.toString() ?? reference;
  });
}
