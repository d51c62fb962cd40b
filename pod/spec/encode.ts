// Encodes config.json: JSON, except that environment values are raw bytes.

import { randomUUID } from "node:crypto";
import type { OciResources, OciSpec } from "./oci.ts";

/**
 * Everything except the environment is UTF-8 JSON. Environment values that are not UTF-8 are written byte for byte, as
 * crun and keelson-monitor read them.
 */
export function encodeSpec(spec: OciSpec): Buffer {
  const mark = randomUUID();
  const text = JSON.stringify({ ...spec, process: { ...spec.process, env: mark } });
  const [before, after] = text.split(`"${mark}"`);
  if (before === undefined || after === undefined)
    throw new TypeError("config.json lacks the placeholder for the environment");
  const environment = spec.process.env.flatMap((entry, index) => [
    Buffer.from(index === 0 ? '"' : ',"'),
    jsonBytes(entry),
    quote,
  ]);
  return Buffer.concat([Buffer.from(before), Buffer.from("["), ...environment, Buffer.from("]"), Buffer.from(after)]);
}

/**
 * Replaces the resources of a config.json (except device rules) and its OOM score. Read and written as Latin-1, so that
 * all other bytes stay unchanged.
 */
export function withResources(configJson: Buffer, resources: OciResources, oomScoreAdj: number): Buffer {
  const spec: { readonly process: object; readonly linux: { readonly resources: OciResources } } = JSON.parse(
    configJson.toString("latin1"),
  );
  const { devices } = spec.linux.resources;
  const linux = { ...spec.linux, resources: { ...resources, devices } };
  return Buffer.from(JSON.stringify({ ...spec, linux, process: { ...spec.process, oomScoreAdj } }), "latin1");
}

const quote = Buffer.from('"');

function jsonBytes(bytes: Buffer): Buffer {
  if (!bytes.some(needsEscape)) return bytes;
  const parts: Buffer[] = [];
  for (const byte of bytes)
    parts.push(needsEscape(byte) ? Buffer.from(`\\u${byte.toString(16).padStart(4, "0")}`) : Buffer.of(byte));
  return Buffer.concat(parts);
}

function needsEscape(byte: number): boolean {
  return byte < 0x20 || byte === 0x22 || byte === 0x5c;
}
