// The `info` maps of verbose answers: JSON under names, for people and for templates like crictl's {{.info.pid}}.

/** bigints become strings, Maps objects: JSON has neither. */
export function encodeInfo(pictures: object): Record<string, string> {
  return Object.fromEntries(Object.entries(pictures).map(([name, picture]) => [name, JSON.stringify(picture, plain)]));
}

function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  return value instanceof Map ? Object.fromEntries(value) : value;
}
